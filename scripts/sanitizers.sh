#!/usr/bin/env bash
# Sanitizers: the tests of the three engine crates under the address sanitizer, which sees use after free, reads and writes
# out of bounds and, at the end, leaks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
