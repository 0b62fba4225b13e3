//! Plots as SVG text: bars with whiskers, and lines. Knows numbers and names, nothing of caches.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// One bar: a value with the ends of its rounds.
pub struct Bar {
    /// Stands left of it.
    pub label: String,
    /// Where it ends.
    pub value: f64,
    /// The whiskers.
    pub from: f64,
    /// The whiskers.
    pub to: f64,
    /// Which colour; zero is ours.
    pub colour: usize,
}

/// Bars that belong together, under a heading.
pub struct Group {
    /// The heading.
    pub heading: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// Points joined by a line.
pub struct Line {
    /// In the legend.
    pub label: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Which colour; zero is ours.
    pub colour: usize,
}

const WIDTH: u32 = 960;
const LABELS: i32 = 190;
const ROW: i32 = 17;
const AXIS: i32 = 34;
const FONT: (&str, i32) = ("sans-serif", 12);

/// Ours stands out; neighbours differ.
const COLOURS: [RGBColor; 10] = [
    RGBColor(200, 50, 40),
    RGBColor(235, 150, 60),
    RGBColor(120, 120, 120),
    RGBColor(50, 110, 180),
    RGBColor(60, 150, 90),
    RGBColor(130, 80, 160),
    RGBColor(150, 110, 60),
    RGBColor(70, 170, 180),
    RGBColor(180, 100, 150),
    RGBColor(90, 90, 40),
];

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Horizontal bars on a logarithmic axis; shorter is better.
///
/// # Errors
/// When the plotter fails.
pub fn bars(unit: &str, groups: &[Group]) -> Result<String> {
    let values = || groups.iter().flat_map(|group| &group.bars).flat_map(|bar| [bar.value, bar.from, bar.to]);
    let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let most = values().fold(0.0, f64::max);
    if !least.is_finite() {
        return Ok(String::new());
    }
    let (least, most) = (least / 2.0, most.max(least) * 1.3);
    // A row for each heading, too.
    let rows: usize = groups.iter().map(|group| group.bars.len() + 1).sum();
    let height = rows as i32 * ROW;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, (height + AXIS) as u32)).into_drawing_area();
        let (labels, plot) = root.split_horizontally(LABELS);
        let mut chart = ChartBuilder::on(&plot)
            .margin_right(20)
            .x_label_area_size(AXIS)
            .build_cartesian_2d((least..most).log_scale(), 0.0..rows as f64)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().disable_y_axis().x_desc(unit).x_label_formatter(&|value| short(*value));
        mesh.label_style(FONT).light_line_style(WHITE).draw().map_err(failed)?;
        let mut row = 0;
        for group in groups {
            let heading = Text::new(group.heading.clone(), (4, row * ROW + 4), FONT.into_font().color(&BLACK));
            root.draw(&heading).map_err(failed)?;
            row += 1;
            for bar in &group.bars {
                let label =
                    Text::new(bar.label.clone(), (20, row * ROW + 3), FONT.into_font().color(&colour(bar.colour)));
                labels.draw(&label).map_err(failed)?;
                let top = (rows as i32 - row) as f64;
                let end = bar.value.max(least);
                let body =
                    Rectangle::new([(least, top - 0.15), (end, top - 0.85)], colour(bar.colour).mix(0.75).filled());
                let whisker =
                    PathElement::new([(bar.from.max(least), top - 0.5), (bar.to.max(least), top - 0.5)], BLACK);
                chart.draw_series([body]).map_err(failed)?;
                chart.draw_series([whisker]).map_err(failed)?;
                row += 1;
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Lines over named places of the horizontal axis, `log` or not upwards.
///
/// # Errors
/// When the plotter fails.
pub fn lines(places: &[String], unit: &str, lines: &[Line], log: bool) -> Result<String> {
    let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let most = values().fold(0.0, f64::max) * 1.1;
    let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min) / 1.5;
    if !least.is_finite() || places.is_empty() {
        return Ok(String::new());
    }
    if log { drawn(places, unit, lines, (least..most).log_scale()) } else { drawn(places, unit, lines, 0.0..most) }
}

fn drawn<Y>(places: &[String], unit: &str, lines: &[Line], upwards: Y) -> Result<String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, 340)).into_drawing_area();
        let across = -0.2..places.len() as f64 - 0.8;
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(190)
            .x_label_area_size(AXIS)
            .y_label_area_size(70)
            .build_cartesian_2d(across, upwards)
            .map_err(failed)?;
        let place = |value: &f64| {
            let nearest = value.round();
            let name = if (value - nearest).abs() < 0.01 { places.get(nearest as usize) } else { None };
            name.cloned().unwrap_or_default()
        };
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh().x_labels(places.len() * 5).x_label_formatter(&place);
        mesh.y_desc(unit).y_label_formatter(&|value| short(*value)).label_style(FONT).light_line_style(WHITE);
        mesh.draw().map_err(failed)?;
        for (number, line) in lines.iter().enumerate() {
            let style = colour(line.colour).stroke_width(if line.colour == 0 { 3 } else { 1 });
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3)).map_err(failed)?;
            let at = (WIDTH as i32 - 180, 14 + number as i32 * ROW);
            let label = Text::new(line.label.clone(), at, FONT.into_font().color(&colour(line.colour)));
            root.draw(&label).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// A number as an axis shows it.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e9 => format!("{}G", value / 1e9),
        large if large >= 1e6 => format!("{}M", value / 1e6),
        large if large >= 1e3 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_and_every_line_is_named_in_its_plot() {
        let bar =
            |label: &str, value| Bar { label: label.into(), value, from: value / 2.0, to: value * 2.0, colour: 0 };
        let group = Group { heading: "a case".into(), bars: vec![bar("one", 10.0), bar("two", 3e6)] };
        let svg = bars("ns per operation", &[group]).unwrap();
        assert!(["<svg", "a case", "one", "two"].iter().all(|part| svg.contains(part)), "{svg}");
        let line = Line { label: "three".into(), points: vec![(0.0, 1.0), (1.0, 2.0)], colour: 1 };
        for log in [false, true] {
            let svg = lines(&["p50".into(), "p99".into()], "ns", std::slice::from_ref(&line), log).unwrap();
            assert!(["<svg", "three", "<polyline"].iter().all(|part| svg.contains(part)), "{svg}");
        }
        assert_eq!(bars("ns", &[]).unwrap(), "");
    }
}
