//! Charts as SVG text: the divergence (logarithmic, with its interval) of each lane against what the lane costs. The front is a
//! line, its members are named in bold. Colours are those of light paper; the page's style sheet turns them (see [`PALETTE`]).

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::number::significant;
use crate::report::pareto;

/// One lane in a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its name.
    pub label: String,
    /// What it costs or gains, in the unit of the axis.
    pub x: f64,
    /// Its divergence; 0 is drawn on the floor.
    pub y: f64,
    /// The interval of the divergence.
    pub ends: Option<(f64, f64)>,
    /// Whether it is the reference.
    pub is_reference: bool,
}

/// Which side of the horizontal axis is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Small values, such as sizes.
    Left,
    /// Large values, such as speeds.
    Right,
}

/// What a colour stands for, and its value on paper. The page gives each another value in the dark, by CSS rules on `fill` and
/// `stroke` (see `report.html.j2`).
pub const PALETTE: &[(&str, RGBColor)] =
    &[("ink", INK), ("grid", GRID), ("front", FRONT), ("rest", REST), ("reference", REFERENCE)];

const INK: RGBColor = RGBColor(0x1F, 0x29, 0x33);
const GRID: RGBColor = RGBColor(0xD9, 0xDE, 0xE4);
const FRONT: RGBColor = RGBColor(0x0B, 0x6B, 0xCB);
const REST: RGBColor = RGBColor(0x6B, 0x77, 0x85);
const REFERENCE: RGBColor = RGBColor(0xB4, 0x53, 0x09);

const WIDTH: i32 = 760;
const HEIGHT: i32 = 440;
/// plotters-svg writes sizes divided by 1.24; this is 13 pixels on the page.
const FONT: f64 = 16.0;
/// About how wide a character of that font is, in pixels.
const CHARACTER: f64 = 7.3;
const LINE: i32 = 16;

/// Draws the chart; `x_title` names the horizontal axis and its unit. `None` where fewer than two points could be drawn.
pub fn chart(points: &[Point], x_title: &str, better: Better) -> Option<String> {
    let sound = |p: &&Point| p.x.is_finite() && p.y.is_finite() && p.y >= 0.0;
    let points: Vec<&Point> = points.iter().filter(sound).collect();
    let range = (points.len() > 1).then(|| Ranges::of(&points))?;
    let mut svg = String::new();
    draw(&mut svg, &points, &range, x_title, better).ok()?;
    // The page's text names the chart; its own size is that of the page.
    Some(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", "mean KL divergence by lane"), 1))
}

/// The axes' ranges.
struct Ranges {
    x: (f64, f64),
    y: (f64, f64),
}

impl Ranges {
    fn of(points: &[&Point]) -> Self {
        let (low, high) = extent(points.iter().map(|p| p.x));
        let margin = if high > low { 0.07 * (high - low) } else { 0.1 * high.abs().max(1.0) };
        let ends = points.iter().flat_map(|p| p.ends.map_or([p.y, p.y], |(l, h)| [l, h])).filter(|y| *y > 0.0 && y.is_finite());
        let (floor, top) = extent(points.iter().map(|p| p.y).filter(|y| *y > 0.0).chain(ends));
        let (floor, top) = if floor <= top { (floor, top) } else { (1e-6, 1e-5) };
        // Below the least divergence there is room for what diverges by nothing.
        Self { x: ((low - margin).max(0.0_f64.min(low)), high + margin), y: (floor / 3.0, top * 1.6) }
    }

    /// Where a divergence is drawn: at least on the floor.
    fn on_paper(&self, y: f64) -> f64 {
        y.clamp(self.y.0, self.y.1)
    }
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

type Failed<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw<'a>(svg: &'a mut String, points: &[&Point], range: &Ranges, x_title: &str, better: Better) -> Result<(), Failed<'a>> {
    let area = SVGBackend::with_string(svg, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(76)
        .build_cartesian_2d(range.x.0..range.x.1, (range.y.0..range.y.1).log_scale())?;
    let font = text_style(INK, FontStyle::Normal);
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .axis_style(REST.stroke_width(1))
        .label_style(font.clone())
        .axis_desc_style(font)
        .x_desc(x_title)
        .y_desc("mean KL divergence (nats per token)")
        .x_label_formatter(&|x| tick(*x))
        .y_label_formatter(&|y| tick(*y))
        .x_labels(8)
        .y_labels(8)
        .draw()?;
    let costs: Vec<(f64, f64)> = points.iter().map(|p| (if better == Better::Left { p.x } else { -p.x }, p.y)).collect();
    let front = pareto::front(&costs);
    let mut line: Vec<(f64, f64)> =
        points.iter().zip(&front).filter(|(_, on)| **on).map(|(p, _)| (p.x, range.on_paper(p.y))).collect();
    line.sort_by(|a, b| a.0.total_cmp(&b.0));
    chart.draw_series(std::iter::once(PathElement::new(line, FRONT.mix(0.5).stroke_width(2))))?;
    let place = |x, y| chart.backend_coord(&(x, range.on_paper(y)));
    let marks: Vec<Mark> = points.iter().zip(&front).map(|(p, on)| Mark::of(p, *on, &place)).collect();
    draw_marks(&area, &marks)?;
    area.present()
}

/// A number on an axis: the digits it needs and no more.
fn tick(value: f64) -> String {
    let text = significant(value, 3);
    if text.contains('.') && !text.contains('e') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn text_style(colour: RGBColor, style: FontStyle) -> TextStyle<'static> {
    let mut text = TextStyle::from(("system-ui, sans-serif", FONT, style).into_font());
    text.color = colour.to_backend_color();
    text
}

/// A point on the paper, in pixels.
struct Mark {
    at: (i32, i32),
    /// Top and bottom of the interval.
    bar: Option<(i32, i32)>,
    label: String,
    colour: RGBColor,
    on_front: bool,
}

impl Mark {
    fn of(point: &Point, on_front: bool, place: &impl Fn(f64, f64) -> (i32, i32)) -> Self {
        let colour = match (point.is_reference, on_front) {
            (true, _) => REFERENCE,
            (false, true) => FRONT,
            (false, false) => REST,
        };
        let zero = if point.y == 0.0 { " (0)" } else { "" };
        Self {
            at: place(point.x, point.y),
            bar: point.ends.filter(|_| point.y > 0.0).map(|(low, high)| (place(point.x, high).1, place(point.x, low).1)),
            label: format!("{}{zero}", point.label),
            colour,
            on_front,
        }
    }
}

fn draw_marks<'a>(area: &Area<'a>, marks: &[Mark]) -> Result<(), Failed<'a>> {
    for mark in marks {
        let (x, y) = mark.at;
        if let Some((top, bottom)) = mark.bar {
            let style = mark.colour.stroke_width(1);
            area.draw(&PathElement::new(vec![(x, top), (x, bottom)], style))?;
            for end in [top, bottom] {
                area.draw(&PathElement::new(vec![(x - 4, end), (x + 4, end)], style))?;
            }
        }
        area.draw(&Circle::new((x, y), 4, mark.colour.filled()))?;
    }
    for (mark, corner) in marks.iter().zip(place_labels(marks)) {
        let weight = if mark.on_front { FontStyle::Bold } else { FontStyle::Normal };
        let style = text_style(mark.colour, weight).pos(Pos::new(HPos::Left, VPos::Top));
        area.draw(&Text::new(mark.label.clone(), corner, style))?;
    }
    Ok(())
}

/// A rectangle in pixels: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rect(f64, f64, f64, f64);

impl Rect {
    fn overlap(&self, other: &Self) -> f64 {
        let width = self.2.min(other.2) - self.0.max(other.0);
        let height = self.3.min(other.3) - self.1.max(other.1);
        width.max(0.0) * height.max(0.0)
    }

    fn area(&self) -> f64 {
        (self.2 - self.0) * (self.3 - self.1)
    }
}

/// The upper left corners of the labels: one after the other takes, of the places around its point, the first that covers the
/// least of the points, the bars, the labels placed before and the margin.
fn place_labels(marks: &[Mark]) -> Vec<(i32, i32)> {
    let mut taken: Vec<Rect> = marks.iter().flat_map(obstacles).collect();
    let paper = Rect(90.0, 4.0, f64::from(WIDTH) - 4.0, f64::from(HEIGHT) - 62.0);
    let mut corners = Vec::with_capacity(marks.len());
    for mark in marks {
        let cost = |r: &Rect| {
            let outside = r.area() - r.overlap(&paper);
            10.0 * outside + taken.iter().map(|t| t.overlap(r)).sum::<f64>()
        };
        let best = candidates(mark).into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let best = best.unwrap_or(Rect(f64::from(mark.at.0), f64::from(mark.at.1), 0.0, 0.0));
        taken.push(best);
        corners.push((best.0.round() as i32, best.1.round() as i32));
    }
    corners
}

/// What labels must not cover: the dot and the bar.
fn obstacles(mark: &Mark) -> Vec<Rect> {
    let (x, y) = (f64::from(mark.at.0), f64::from(mark.at.1));
    let dot = Rect(x - 5.0, y - 5.0, x + 5.0, y + 5.0);
    let bar = mark.bar.map(|(top, bottom)| Rect(x - 4.0, f64::from(top), x + 4.0, f64::from(bottom)));
    [Some(dot), bar].into_iter().flatten().collect()
}

/// The places for a label, the best first: right, left, above, below, then aslant, then all of them farther away.
fn candidates(mark: &Mark) -> Vec<Rect> {
    let (x, y) = (f64::from(mark.at.0), f64::from(mark.at.1));
    let (width, height) = (CHARACTER * mark.label.chars().count() as f64, f64::from(LINE));
    let mut places = Vec::new();
    for gap in [8.0, 16.0, 26.0] {
        for (right, down) in
            [(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, -1.0), (-1.0, 1.0)]
        {
            let side = |direction: f64, size: f64, gap: f64| (direction - 1.0) / 2.0 * size + direction * gap;
            // Aslant, the gap is shared by both directions.
            let slant = if right != 0.0 && down != 0.0 { 0.7 } else { 1.0 };
            let left = x + side(right, width, gap * slant);
            let top = y + side(down, height, gap * slant);
            places.push(Rect(left, top, left + width, top + height));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, x: f64, y: f64) -> Point {
        Point { label: label.into(), x, y, ends: Some((y * 0.9, y * 1.1)), is_reference: y == 0.0 }
    }

    fn sample() -> Vec<Point> {
        vec![point("bf16", 16.0, 0.0), point("q8", 8.5, 1e-4), point("q4", 4.5, 1e-2), point("bad", 9.0, 2e-2)]
    }

    fn weight_of(svg: &str, label: &str) -> &'static str {
        let end = svg.find(&format!("\n{label}\n")).unwrap_or_else(|| panic!("{label} is not in {svg}"));
        let start = svg[..end].rfind("<text").unwrap();
        if svg[start..end].contains("bold") { "bold" } else { "normal" }
    }

    #[test]
    fn every_point_is_named_and_the_front_is_bold() {
        let svg = chart(&sample(), "bits per weight", Better::Left).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        for (label, weight) in [("bf16 (0)", "bold"), ("q8", "bold"), ("q4", "bold"), ("bad", "normal")] {
            assert_eq!(weight_of(&svg, label), weight, "{label}");
        }
    }

    #[test]
    fn the_better_side_decides_the_front() {
        let svg = chart(&sample(), "tokens/s", Better::Right).unwrap();
        assert_eq!((weight_of(&svg, "bf16 (0)"), weight_of(&svg, "q8")), ("bold", "normal"));
    }

    #[test]
    fn labels_are_escaped() {
        let mut points = sample();
        points[1].label = "<script>&\"".into();
        let svg = chart(&points, "x", Better::Left).unwrap();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"), "{svg}");
    }

    #[test]
    fn a_chart_needs_two_points() {
        assert_eq!(chart(&[], "x", Better::Left), None);
        assert_eq!(chart(&sample()[..1], "x", Better::Left), None);
        assert_eq!(chart(&[point("a", f64::NAN, 1.0), point("b", 1.0, 1.0)], "x", Better::Left), None);
    }

    #[test]
    fn odd_ranges_still_make_a_chart() {
        let same = [point("a", 1.0, 1e-3), point("b", 1.0, 1e-3)];
        assert!(chart(&same, "x", Better::Left).is_some());
        let zeros = [point("a", 1.0, 0.0), point("b", 2.0, 0.0)];
        assert!(chart(&zeros, "x", Better::Left).is_some());
        let mut open = sample();
        open[1].ends = Some((-1.0, f64::INFINITY));
        assert!(chart(&open, "x", Better::Left).is_some());
    }

    #[test]
    fn labels_of_near_points_do_not_cover_each_other() {
        let mark = |x, y| Mark { at: (x, y), bar: None, label: "iq4_xs".into(), colour: REST, on_front: false };
        let marks: Vec<Mark> = [(300, 200), (304, 203), (310, 199), (315, 206)].map(|(x, y)| mark(x, y)).into();
        let rects: Vec<Rect> = place_labels(&marks)
            .into_iter()
            .map(|(x, y)| Rect(f64::from(x), f64::from(y), f64::from(x) + 6.0 * CHARACTER, f64::from(y + LINE)))
            .collect();
        for (i, a) in rects.iter().enumerate() {
            for b in &rects[i + 1..] {
                assert!(a.overlap(b) <= 0.05 * a.area(), "{a:?} covers {b:?}");
            }
        }
    }

    #[test]
    fn the_style_sheet_knows_every_colour() {
        let page = include_str!("report.html.j2");
        for (name, RGBColor(r, g, b)) in PALETTE {
            let colour = format!("#{r:02X}{g:02X}{b:02X}");
            assert!(page.contains(&format!("[fill=\"{colour}\"] {{ fill: var(--{name}); }}")), "fill of {name} ({colour})");
            assert!(page.contains(&format!("[stroke=\"{colour}\"] {{ stroke: var(--{name}); }}")), "stroke of {name} ({colour})");
        }
    }
}
