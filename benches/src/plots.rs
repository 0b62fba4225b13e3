//! Plots as SVG text: bars with whiskers and columns of text next to them, and lines. Nothing here knows
//! about caches, only numbers and names.
//!
//! Every bar has its name and figures as text, and every line has its own mark, so that no plot depends on
//! colours. For screen readers, a plot is an image with a name.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// How the numbers on an axis are written.
pub type Format = fn(f64) -> String;

/// One bar: a value with the range of its rounds.
pub struct Bar {
    /// The text to the left of it.
    pub label: String,
    /// The value at which it ends.
    pub value: f64,
    /// The lower end of the whisker.
    pub from: f64,
    /// The upper end of the whisker.
    pub to: f64,
    /// The index of its colour; zero is ours.
    pub colour: usize,
    /// The texts to the right of it, one for each column.
    pub notes: Vec<String>,
}

/// Bars that belong together, under a heading.
pub struct Group {
    /// The heading.
    pub heading: String,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
}

/// Points joined by a line.
pub struct Line {
    /// Its text in the legend.
    pub label: String,
    /// The points from left to right.
    pub points: Vec<(f64, f64)>,
    /// The index of its colour and mark; zero is ours.
    pub colour: usize,
}

/// The horizontal axis of a plot of lines.
pub enum Across {
    /// Names, at 0, 1, 2 and so on.
    Places(Vec<String>),
    /// Numbers on a logarithmic axis that begins at one, and the axis's description.
    Numbers(&'static str),
}

/// The vertical axis of a plot of lines.
pub struct Upwards {
    /// What the axis shows.
    pub name: &'static str,
    /// Whether it is logarithmic; otherwise it begins at zero.
    pub log: bool,
    /// How its numbers are written.
    pub format: Format,
}

const WIDTH: u32 = 960;
const LABELS: i32 = 150;
/// The width of a column of text to the right of the bars.
const COLUMN: i32 = 74;
const ROW: i32 = 17;
const AXIS: i32 = 34;
/// More names than any axis of places has.
const MANY: usize = 30;
const FONT: (&str, i32) = ("sans-serif", 12);

/// Colours of Okabe and Ito's palette, which the colour-blind can tell apart, and some more. Darker ones
/// replace those too light to read.
const COLOURS: [RGBColor; 13] = [
    RGBColor(213, 60, 0),
    RGBColor(230, 159, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(120, 70, 150),
    RGBColor(140, 109, 31),
    RGBColor(86, 180, 233),
    RGBColor(204, 90, 150),
    RGBColor(30, 30, 30),
    RGBColor(150, 190, 60),
    RGBColor(0, 80, 90),
    RGBColor(170, 140, 220),
];
/// How many contestants and others can have a colour of their own.
pub const DISTINCT: usize = COLOURS.len();

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Draws horizontal bars on a logarithmic axis, shorter being better, with the named columns of text to the
/// right of them.
///
/// # Errors
/// If the plotter fails.
pub fn bars(plot_name: &str, unit: &str, format: Format, columns: &[&str], groups: &[Group]) -> Result<String> {
    let values = || groups.iter().flat_map(|group| &group.bars).flat_map(|bar| [bar.value, bar.from, bar.to]);
    let Some((least, most)) = bounds(values()) else { return Ok(String::new()) };
    // One row for the names of the columns, and one for each heading.
    let rows = 1 + groups.iter().map(|group| group.bars.len() + 1).sum::<usize>();
    let height = rows as i32 * ROW;
    let notes_at = WIDTH as i32 - columns.len() as i32 * COLUMN;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, (height + AXIS) as u32)).into_drawing_area();
        let (_, plot) = root.split_horizontally(LABELS);
        let (plot, _) = plot.split_horizontally(notes_at - LABELS);
        let mut chart = ChartBuilder::on(&plot)
            .margin_right(16)
            .x_label_area_size(AXIS)
            .build_cartesian_2d((least..most).log_scale().with_key_points(ticks(least, most)), 0.0..rows as f64)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        let name = |value: &f64| format(*value);
        mesh.disable_y_mesh().disable_y_axis().x_desc(unit).x_label_formatter(&name);
        mesh.label_style(FONT).light_line_style(WHITE).draw().map_err(failed)?;
        let write = |text: &str, across: i32, row: i32, style: TextStyle<'_>| {
            root.draw(&Text::new(text.to_owned(), (across, row * ROW + 3), style)).map_err(failed)
        };
        let right = Pos::new(HPos::Right, VPos::Top);
        let notes = |texts: &mut dyn Iterator<Item = &str>, row: i32, ours: bool| {
            for (number, text) in texts.enumerate() {
                write(text, notes_at + (number as i32 + 1) * COLUMN - 4, row, style(ours).pos(right))?;
            }
            Ok::<_, anyhow::Error>(())
        };
        notes(&mut columns.iter().copied(), 0, false)?;
        let mut row = 1;
        for group in groups {
            write(&group.heading, 4, row, style(false))?;
            row += 1;
            for bar in &group.bars {
                let ours = bar.colour == 0;
                write(&bar.label, 16, row, style(ours))?;
                notes(&mut bar.notes.iter().map(String::as_str), row, ours)?;
                let top = (rows as i32 - row) as f64;
                let (end, from, to) = (bar.value.max(least), bar.from.max(least), bar.to.max(least));
                let body =
                    Rectangle::new([(least, top - 0.15), (end, top - 0.85)], colour(bar.colour).mix(0.75).filled());
                chart.draw_series([body]).map_err(failed)?;
                if from < to {
                    let upright = |at: f64| vec![(at, top - 0.3), (at, top - 0.7)];
                    let whisker = [vec![(from, top - 0.5), (to, top - 0.5)], upright(from), upright(to)];
                    chart.draw_series(whisker.map(|path| PathElement::new(path, BLACK))).map_err(failed)?;
                }
                row += 1;
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(named(&svg, plot_name))
}

fn style(ours: bool) -> TextStyle<'static> {
    let weight = if ours { FontStyle::Bold } else { FontStyle::Normal };
    FONT.into_font().style(weight).color(&BLACK)
}

/// Returns the ends of a logarithmic axis for these values: the nearest steps beyond them.
fn bounds(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let least = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let most = values.fold(0.0, f64::max).max(least);
    if !least.is_finite() {
        return None;
    }
    // A bar that ends at the very edge would be invisible.
    let (below, above) = (least / 1.3, most * 1.02);
    let steps = || (-9..=15).flat_map(|power| STEPS.map(|step| step * 10f64.powi(power)));
    let from = steps().rev().find(|step| *step <= below).unwrap_or(below);
    Some((from, steps().find(|step| *step >= above).unwrap_or(above)))
}

const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// Returns the numbers shown on a logarithmic axis: each 1, 2 and 5 if there is room, else powers of ten.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let near = if most / least > 3000.0 { &STEPS[..1] } else { &STEPS[..] };
    let all = (-9..=15).flat_map(|power| near.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|tick| (least * 0.999..=most * 1.001).contains(tick)).collect()
}

/// Draws lines, with the legend to the right of them.
///
/// # Errors
/// If the plotter fails.
pub fn lines(plot_name: &str, across: &Across, upwards: &Upwards, lines: &[Line]) -> Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let Some((least, most)) = bounds(points().map(|point| point.1)) else { return Ok(String::new()) };
    let highest = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
    let up = (least..most).log_scale().with_key_points(ticks(least, most));
    let svg = match across {
        Across::Places(places) => {
            // The plotter chooses where to put labels; a label away from a place is left empty.
            let at = -0.2..places.len() as f64 - 0.8;
            let name = |place: &f64| {
                let nearest = place.round();
                let place = if (place - nearest).abs() < 0.01 { places.get(nearest as usize) } else { None };
                place.cloned().unwrap_or_default()
            };
            if upwards.log {
                drawn(at, "", &name, up, upwards, lines)
            } else {
                drawn(at, "", &name, 0.0..highest, upwards, lines)
            }
        }
        Across::Numbers(what) => {
            let end = bounds(points().map(|point| point.0)).map_or(10.0, |(_, end)| end);
            let at = (1.0..end).log_scale().with_key_points(ticks(1.0, end));
            let number = |value: &f64| short(*value);
            if upwards.log {
                drawn(at, what, &number, up, upwards, lines)
            } else {
                drawn(at, what, &number, 0.0..highest, upwards, lines)
            }
        }
    };
    Ok(named(&svg?, plot_name))
}

fn drawn<X, Y>(
    across: X,
    across_is: &str,
    across_name: &dyn Fn(&f64) -> String,
    upwards: Y,
    Upwards { name, format, .. }: &Upwards,
    lines: &[Line],
) -> Result<String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, 340)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(190)
            .x_label_area_size(AXIS)
            .y_label_area_size(70)
            .build_cartesian_2d(across, upwards)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        // Enough labels that the places are among them.
        if across_is.is_empty() {
            mesh.x_labels(MANY);
        }
        mesh.disable_x_mesh().x_desc(across_is).x_label_formatter(across_name).label_style(FONT);
        let up_name = |value: &f64| format(*value);
        mesh.y_desc(*name).y_label_formatter(&up_name).light_line_style(WHITE);
        mesh.draw().map_err(failed)?;
        // Ours is drawn last, so that it lies on top.
        let mut in_order: Vec<(usize, &Line)> = lines.iter().enumerate().collect();
        in_order.sort_by_key(|(_, line)| line.colour == 0);
        for (number, line) in in_order {
            let width = if line.colour == 0 { 3 } else { 1 };
            let stroke = colour(line.colour).stroke_width(width);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), stroke)).map_err(failed)?;
            // Marks at every point would hide a long line.
            let every = line.points.len().div_ceil(12).max(1);
            for point in line.points.iter().step_by(every) {
                mark(&root, chart.backend_coord(point), line.colour)?;
            }
            let at = (WIDTH as i32 - 180, 14 + number as i32 * ROW);
            mark(&root, (at.0, at.1 + 6), line.colour)?;
            let text = Text::new(line.label.clone(), (at.0 + 12, at.1), style(line.colour == 0));
            root.draw(&text).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The corners of each mark but the first, which is a circle. There are as many marks as colours, so each
/// colour has its own.
const SHAPES: [&[(i32, i32)]; DISTINCT - 1] = [
    &[(0, -4), (4, 4), (-4, 4)],
    &[(-3, -3), (3, -3), (3, 3), (-3, 3)],
    &[(0, -5), (5, 0), (0, 5), (-5, 0)],
    &[(0, 4), (4, -4), (-4, -4)],
    &[(-5, 0), (3, -5), (3, 5)],
    &[(5, 0), (-3, -5), (-3, 5)],
    // A plus, and the same rotated.
    &[(-1, -5), (1, -5), (1, -1), (5, -1), (5, 1), (1, 1), (1, 5), (-1, 5), (-1, 1), (-5, 1), (-5, -1), (-1, -1)],
    &[(-4, -5), (0, -1), (4, -5), (5, -4), (1, 0), (5, 4), (4, 5), (0, 1), (-4, 5), (-5, 4), (-1, 0), (-5, -4)],
    // An upright bar, and a horizontal one.
    &[(-1, -5), (2, -5), (2, 5), (-1, 5)],
    &[(-5, -1), (5, -1), (5, 2), (-5, 2)],
    // An hourglass, and the same on its side.
    &[(-4, -5), (4, -5), (0, 0), (4, 5), (-4, 5), (0, 0)],
    &[(-5, -4), (0, 0), (5, -4), (5, 4), (0, 0), (-5, 4)],
];

/// Draws a mark. Marks differ even where colours may look alike.
fn mark(area: &DrawingArea<SVGBackend<'_>, Shift>, (x, y): (i32, i32), index: usize) -> Result<()> {
    let colour = colour(index);
    let Some(shape) = (index % DISTINCT).checked_sub(1).map(|index| SHAPES[index]) else {
        return area.draw(&Circle::new((x, y), 5, colour.filled())).map_err(failed);
    };
    let corners: Vec<(i32, i32)> = shape.iter().map(|(right, down)| (x + right, y + down)).collect();
    area.draw(&Polygon::new(corners, colour.filled())).map_err(failed)
}

/// Gives a drawing a name, for people who can't see it. `name` is plain text.
fn named(svg: &str, name: &str) -> String {
    let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{name}\" "), 1)
}

/// Formats a number for an axis.
pub fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e9 => format!("{}G", rounded(value / 1e9)),
        large if large >= 1e6 => format!("{}M", rounded(value / 1e6)),
        large if large >= 1e4 => format!("{}k", rounded(value / 1e3)),
        _ => rounded(value),
    }
}

/// Formats nanoseconds with a suitable unit.
pub fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        long if long >= 1e9 => format!("{} s", rounded(long / 1e9)),
        long if long >= 1e6 => format!("{} ms", rounded(long / 1e6)),
        long if long >= 1e3 => format!("{} us", rounded(long / 1e3)),
        short => format!("{} ns", rounded(short)),
    }
}

/// Rounds to three digits, without trailing zeros after the decimal point.
fn rounded(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_named_and_has_its_notes_beside_it() {
        let bar = |label: &str, value| Bar {
            label: label.into(),
            value,
            from: value / 2.0,
            to: value * 2.0,
            colour: 0,
            notes: vec![format!("note on {label}")],
        };
        let group = Group { heading: "a case".into(), bars: vec![bar("one", 10.0), bar("two", 3e6)] };
        let svg = bars("one < two", "ns per operation", duration, &["column"], &[group]).unwrap();
        for part in ["<svg role=\"img\" aria-label=\"one &lt; two\"", "a case", "one", "two", "note on two", "column"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(bars("none", "ns", short, &[], &[]).unwrap(), "");
    }

    #[test]
    fn every_line_is_in_the_legend() {
        let line = Line { label: "three".into(), points: vec![(1.0, 1.0), (2.0, 2.0)], colour: 1 };
        for across in [Across::Places(vec!["p50".into(), "p99".into(), "max".into()]), Across::Numbers("ms")] {
            for log in [false, true] {
                let upwards = Upwards { name: "ns", log, format: short };
                let svg = lines("three", &across, &upwards, std::slice::from_ref(&line)).unwrap();
                assert!(["<svg", "three", "<polyline"].iter().all(|part| svg.contains(part)), "{svg}");
            }
        }
    }

    #[test]
    fn no_two_have_the_same_colour_or_the_same_mark() {
        let unlike_others = |index: usize| COLOURS[..index].iter().all(|other| *other != COLOURS[index]);
        assert!((0..DISTINCT).all(unlike_others));
        let unlike_others = |index: usize| SHAPES[..index].iter().all(|other| *other != SHAPES[index]);
        assert!((0..SHAPES.len()).all(unlike_others));
    }

    #[test]
    fn an_axis_begins_and_ends_at_numbers_it_shows() {
        assert_eq!(bounds([30.0, 400.0].into_iter()), Some((20.0, 500.0)));
        assert_eq!(bounds([0.0].into_iter()), None);
        assert_eq!(ticks(20.0, 500.0), [20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(ticks(1.0, 1e6).len(), 7);
    }

    #[test]
    fn figures_are_written_with_three_digits_and_their_unit() {
        assert_eq!([52.44, 687.3, 3_773_684.0, 20.0].map(duration), ["52.4 ns", "687 ns", "3.77 ms", "20 ns"]);
        assert_eq!([0.1, 1234.0, 25_000.0].map(short), ["0.1", "1234", "25k"]);
    }
}
