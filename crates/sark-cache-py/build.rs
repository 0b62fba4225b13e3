//! Tells the compiler which Python this is built for: `ownership` differs where there is no GIL.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    pyo3_build_config::add_extension_module_link_args();
}
