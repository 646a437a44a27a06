//! Charts drawn as SVG. Colours are classes, which the page's style sheet turns (`page.css`); points carry what a pointer or the
//! keyboard shows (`page.js`). Nothing is decided here: what a chart holds is in `chart`.

use std::fmt::Write as _;

use crate::axis::DrawnAxis;
use crate::chart::{Axis, Chart, HeatMap, Plane, Plot, Point, RowPlot, Scale, Style};
use crate::labels::{self, Named, Rect};
use crate::number::significant;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 400.0;
/// Width and height of a plane that has the page's width to itself.
const WIDE: (f64, f64) = (960.0, 520.0);
/// Room around the axes: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (84.0, 12.0, 18.0, 50.0);
/// Names of more points than these hide each other: then only the front's and the marked ones' are written.
const MOST_NAMES: usize = 26;
/// Where there are more points than these, a small screen shows the front's names only.
const FEW_NAMES: usize = 8;
/// Colours of series in the style sheet; further series begin again, with another shape.
pub const COLOURS: usize = 6;
/// Longer names of rows are cut.
const ROW_NAME: usize = 30;

/// The drawing, to be put into a page as it is; `alone` where no other chart stands beside it. `None` where there is not enough
/// to draw.
pub fn draw(chart: &Chart, alone: bool) -> Option<String> {
    let inner = || match &chart.plot {
        Plot::Plane(plane) => {
            let crowd = plane.drawn().len() > FEW_NAMES;
            let wide = alone && crowd;
            let size = if wide { WIDE } else { (WIDTH, HEIGHT) };
            (format!("plane{}{}", flag(crowd, " crowd"), flag(wide, " wide")), plane_svg(plane, size), size)
        }
        Plot::Rows(rows) => {
            let (inner, height) = rows_svg(rows);
            ("rows".to_owned(), inner, (WIDTH, height))
        }
        Plot::Heat(map) => {
            let (inner, height) = heat_svg(map);
            ("heat".to_owned(), inner, (WIDTH, height))
        }
    };
    let (kind, inner, (width, height)) = chart.can_be_drawn().then(inner)?;
    let many = if chart.legend().is_empty() { "one" } else { "many" };
    let title = escape(&format!("{}; {}", chart.title, chart.hint));
    Some(format!(
        "<svg class=\"{kind} {many}\" viewBox=\"0 0 {width} {height}\" role=\"group\" aria-label=\"{title}\" \
         xmlns=\"http://www.w3.org/2000/svg\">{inner}</svg>"
    ))
}

/// The mark of a series, for the legend.
pub fn key(series: usize) -> String {
    format!(
        "<svg class=\"many key\" viewBox=\"0 0 14 14\" aria-hidden=\"true\"><g class=\"pt front s{}\">{}</g></svg>",
        series % COLOURS,
        shape(series, 7.0, 7.0)
    )
}

fn plane_svg(plane: &Plane, (width, height): (f64, f64)) -> String {
    let drawn = plane.drawn();
    let on_front = plane.on_front();
    let (left, top, right, bottom) = (MARGIN.0, MARGIN.1, width - MARGIN.2, height - MARGIN.3);
    let axis = |axis: &Axis, value: fn(&Point) -> f64, range: fn(&Point) -> Option<(f64, f64)>, ends| {
        let values: Vec<f64> = drawn.iter().map(|(_, p)| value(p)).collect();
        // An interval that leads below what counts as more than 0 is cut, not followed.
        let around = drawn.iter().filter_map(|(_, p)| range(p)).flat_map(|(low, high)| [low, high]);
        let placed = DrawnAxis::new(axis.scale, &values, &around.collect::<Vec<_>>(), false, ends);
        (placed, values.iter().any(|v| axis.scale.is_zero(*v)))
    };
    let (x, x_zero) = axis(&plane.x, |p| p.x, |p| p.x_range, (left, right));
    let (y, y_zero) = axis(&plane.y, |p| p.y, |p| p.y_range, (bottom, top));
    let mut out = String::new();
    let ticks = (&x.ticks(64.0, x_zero)[..], &y.ticks(34.0, y_zero)[..]);
    frame_at(&mut out, (left, top, right, bottom), ticks, (&plane.x.title, &plane.y.title), height);

    let at = |p: &Point| (x.pixel(p.x), y.pixel(p.y));
    let mut obstacles: Vec<Rect> = Vec::new();
    let mut path = |out: &mut String, class: &str, places: &[(f64, f64)]| {
        let _ = write!(out, "<path class=\"{class}\" d=\"{}\"/>", line(places));
        obstacles.extend(places.windows(2).flat_map(|w| labels::along(w[0], w[1])));
    };
    for (number, _) in plane.series.iter().enumerate().filter(|(_, s)| s.line) {
        let places: Vec<(f64, f64)> = drawn.iter().filter(|(s, _)| *s == number).map(|(_, p)| at(p)).collect();
        path(&mut out, &format!("line s{}", number % COLOURS), &places);
    }
    let fronts = if plane.front.is_some_and(|f| f.scope == crate::chart::Scope::EachSeries) { plane.series.len() } else { 1 };
    for number in 0..fronts {
        let belongs = |series: usize| fronts == 1 || series == number;
        let members = drawn.iter().zip(&on_front).filter(|((series, _), on)| **on && belongs(*series));
        let mut places: Vec<(f64, f64)> = members.map(|((_, p), _)| at(p)).collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let class = if fronts == 1 { "front-line".to_owned() } else { format!("front-line s{}", number % COLOURS) };
        path(&mut out, &class, &places);
    }

    let all = drawn.iter().filter(|(_, p)| !p.unnamed).count() <= MOST_NAMES;
    let stands_out = |i: usize| all || on_front[i] || drawn[i].1.marked;
    let mut order: Vec<usize> = (0..drawn.len()).collect();
    order.sort_by(|a, b| drawn[*a].1.x.total_cmp(&drawn[*b].1.x));
    for (place, i) in order.iter().enumerate() {
        let (series, p) = drawn[*i];
        let (cx, cy) = at(p);
        let class = format!("s{}{}{}", series % COLOURS, flag(on_front[*i], " front"), flag(p.marked, " marked"))
            + flag(p.unsure, " unsure");
        let mut inner = String::new();
        let vertical =
            p.y_range.filter(|_| !plane.y.scale.is_zero(p.y)).map(|(low, high)| [(cx, y.pixel(high)), (cx, y.pixel(low))]);
        let across =
            p.x_range.filter(|_| !plane.x.scale.is_zero(p.x)).map(|(low, high)| [(x.pixel(low), cy), (x.pixel(high), cy)]);
        for [from, to] in [vertical, across].into_iter().flatten().filter(|_| stands_out(*i)) {
            // A bar that the dot would hide is left out; in a crowd so are those of the rest, which would hide everything.
            if (to.0 - from.0).abs() + (to.1 - from.1).abs() > 10.0 {
                whisker(&mut inner, from, to);
                obstacles.extend(labels::along(from, to));
            }
        }
        inner += &shape(series, cx, cy);
        point(&mut out, &class, place == 0, (&p.label, &p.lines), (cx, cy), &inner);
        obstacles.push(labels::dot((cx, cy)));
    }

    let mut named: Vec<usize> = (0..drawn.len()).filter(|i| stands_out(*i) && !drawn[*i].1.unnamed).collect();
    named.sort_by_key(|i| !drawn[*i].1.marked);
    let names: Vec<Named<'_>> = named.iter().map(|i| Named { at: at(drawn[*i].1), text: &drawn[*i].1.label }).collect();
    let places = labels::place_labels(&names, &obstacles, &Rect(left + 2.0, top, right, bottom - 2.0));
    for ((i, name), rect) in named.iter().zip(&names).zip(places) {
        // Where names have no room the tip and the table have them.
        let Some(rect) = rect else {
            continue;
        };
        // Widths are guesses: what stands to the left of its point is written towards it.
        let (anchor, at_x) = if rect.2 < name.at.0 { ("end", rect.2) } else { ("start", rect.0) };
        let front = flag(on_front[*i], " front");
        text(&mut out, &format!("name{front}"), (at_x, rect.1 + 11.5), anchor, name.text);
    }
    out
}

fn rows_svg(chart: &RowPlot) -> (String, f64) {
    let series = chart.series.len().max(1) as f64;
    let (mark_height, gap) = (15.0, 9.0);
    let row_height = series * mark_height + gap;
    let names: Vec<String> = chart.rows.iter().map(|r| shorten(&r.label)).collect();
    let widest = names.iter().map(|n| labels::width(n)).fold(40.0, f64::max);
    let (left, top) = (widest + 16.0, 10.0);
    let bottom = top + row_height * chart.rows.len() as f64;
    let height = bottom + MARGIN.3;

    let marks = || chart.rows.iter().flat_map(|r| r.marks.iter().flatten()).filter(|m| chart.value.scale.holds(m.value));
    let values: Vec<f64> = marks().map(|m| m.value).collect();
    let around: Vec<f64> = marks().filter_map(|m| m.range).flat_map(|(low, high)| [low, high]).collect();
    // To the right there is room for the value.
    let axis = DrawnAxis::new(chart.value.scale, &values, &around, chart.style == Style::Bars, (left, WIDTH - 64.0));
    let mut out = String::new();
    let has_zero = values.iter().any(|v| chart.value.scale.is_zero(*v));
    frame_at(
        &mut out,
        (left, top, WIDTH - MARGIN.2, bottom),
        (&axis.ticks(64.0, has_zero), &[]),
        (&chart.value.title, ""),
        height,
    );

    let mut first = true;
    for (i, (row, name)) in chart.rows.iter().zip(&names).enumerate() {
        let begin = top + row_height * i as f64 + gap / 2.0;
        text(&mut out, "name", (left - 8.0, begin + (row_height - gap) / 2.0 + 4.5), "end", name);
        for (series, mark) in row.marks.iter().enumerate() {
            let Some(mark) = mark.as_ref().filter(|m| chart.value.scale.holds(m.value)) else {
                continue;
            };
            let y = begin + mark_height * (series as f64 + 0.5);
            let x = axis.pixel(mark.value);
            let mut inner = String::new();
            if chart.style == Style::Bars {
                let base = if axis.pixel(0.0) > left { axis.pixel(0.0) } else { left };
                let (from, width) = (base.min(x), (x - base).abs());
                let _ = write!(inner, "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"11\"/>", y - 5.5);
            }
            let mut end = x;
            if let Some((low, high)) = mark.range.map(|(low, high)| (axis.pixel(low), axis.pixel(high))) {
                whisker(&mut inner, (low, y), (high, y));
                end = end.max(high);
            }
            if chart.style == Style::Intervals {
                inner += &shape(series, x, y);
            }
            text(&mut inner, "value", (end + 9.0, y + 4.0), "start", &significant(mark.value, 3));
            let head =
                if chart.series.len() > 1 { format!("{}, {}", row.label, chart.series[series]) } else { row.label.clone() };
            point(
                &mut out,
                &format!("s{} front", series % COLOURS),
                std::mem::take(&mut first),
                (&head, &mark.lines),
                (x, y),
                &inner,
            );
        }
    }
    (out, height)
}

/// The opacity of the smallest value of a heat map; the largest one has 1, and equal ratios are equal steps.
const FAINTEST: f64 = 0.06;
/// What is smaller than the largest value by more than this ratio is as faint as that: one value that is nearly none would make
/// all others alike.
const RATIO: f64 = 1e4;
/// Width that the name of a column takes at least.
const COLUMN_NAME: f64 = 22.0;
/// Cells of the scale of colours, and the width of each.
const STEPS: (usize, f64) = (24, 7.0);

fn heat_svg(map: &HeatMap) -> (String, f64) {
    let row_height = 22.0;
    let names: Vec<String> = map.rows.iter().map(|row| shorten(&row.label)).collect();
    let left = names.iter().map(|name| labels::width(name)).fold(40.0, f64::max) + 16.0;
    let top = 6.0;
    let bottom = top + row_height * map.rows.len() as f64;
    let width = ((WIDTH - MARGIN.2 - left) / map.columns.len().max(1) as f64).min(44.0);
    let (least, high) = map.scale.or(map.range()).unwrap_or((1.0, 1.0));
    let low = least.max(high / RATIO);
    let strength = |value: f64| {
        let share = if high > low { libm::log(value / low) / libm::log(high / low) } else { 1.0 };
        FAINTEST + (1.0 - FAINTEST) * share.clamp(0.0, 1.0)
    };
    let mut out = String::new();
    let every = (COLUMN_NAME / width).ceil().max(1.0) as usize;
    // The last one always, as it may be of another kind.
    let last = map.columns.len().saturating_sub(1);
    let is_named = |i: usize| i == last || (i.is_multiple_of(every) && last - i >= every);
    for (i, name) in map.columns.iter().enumerate().filter(|(i, _)| is_named(*i)) {
        text(&mut out, "tick", (left + width * (i as f64 + 0.5), bottom + 16.0), "middle", name);
    }
    let middle = left + width * map.columns.len() as f64 / 2.0;
    text(&mut out, "axis-title", (middle, bottom + 36.0), "middle", &map.across);
    let mut first = true;
    for (i, (row, name)) in map.rows.iter().zip(&names).enumerate() {
        let y = top + row_height * i as f64;
        text(&mut out, "name", (left - 8.0, y + row_height / 2.0 + 4.5), "end", name);
        for (column, mark) in row.marks.iter().enumerate() {
            let Some(mark) = mark.as_ref().filter(|mark| mark.value.is_finite()) else { continue };
            let x = left + width * column as f64;
            let (wide, tall) = (width - 1.0, row_height - 1.0);
            let (class, fill) = match Scale::Log.holds(mark.value) {
                true => ("front", format!(" fill-opacity=\"{:.2}\"", strength(mark.value))),
                false => ("front nothing", String::new()),
            };
            let inner = format!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall}\"{fill}/>");
            let (head, middle) = (format!("{}, {}", row.label, map.columns[column]), (x + width / 2.0, y + row_height / 2.0));
            point(&mut out, class, std::mem::take(&mut first), (&head, &mark.lines), middle, &inner);
        }
    }
    // The scale: its ends with their values, in steps of equal ratios.
    let y = bottom + 54.0;
    let least_name = if low > least { format!("≤ {}", significant(low, 2)) } else { significant(low, 2) };
    text(&mut out, "tick", (left, y + 25.0), "start", &least_name);
    text(&mut out, "tick", (left + STEPS.0 as f64 * STEPS.1, y + 25.0), "end", &significant(high, 2));
    text(&mut out, "axis-title", (left + STEPS.0 as f64 * STEPS.1 + 10.0, y + 9.5), "start", &map.value);
    out += "<g class=\"scale\" aria-hidden=\"true\">";
    for i in 0..STEPS.0 {
        let opacity = FAINTEST + (1.0 - FAINTEST) * i as f64 / (STEPS.0 - 1) as f64;
        let (x, wide) = (left + i as f64 * STEPS.1, STEPS.1);
        let _ = write!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide}\" height=\"11\" fill-opacity=\"{opacity:.2}\"/>");
    }
    out += "</g>";
    (out, y + 32.0)
}

type Ticks = [(f64, String)];

/// The grid, the ticks' names and the axes' titles (horizontal, vertical) around the rectangle left, top, right, bottom.
fn frame_at(out: &mut String, rect: (f64, f64, f64, f64), ticks: (&Ticks, &Ticks), titles: (&str, &str), height: f64) {
    let (left, top, right, bottom) = rect;
    let rule = |class: &str, x1: f64, y1: f64, x2: f64, y2: f64| {
        format!("<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>")
    };
    for (x, name) in ticks.0 {
        *out += &rule("grid", *x, top, *x, bottom);
        text(out, "tick", (*x, bottom + 18.0), "middle", name);
    }
    for (y, name) in ticks.1 {
        *out += &rule("grid", left, *y, right, *y);
        text(out, "tick", (left - 8.0, y + 4.5), "end", name);
    }
    *out += &rule("axis", left, bottom, right, bottom);
    *out += &rule("axis", left, top, left, bottom);
    text(out, "axis-title", ((left + right) / 2.0, height - 8.0), "middle", titles.0);
    let middle = (top + bottom) / 2.0;
    if !titles.1.is_empty() {
        let _ = write!(
            out,
            "<text class=\"axis-title\" transform=\"translate(15 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(titles.1)
        );
    }
}

/// A point with what it tells; the first of a chart is reached by the tab key, the others from there by the arrows.
fn point(out: &mut String, class: &str, first: bool, (name, lines): (&str, &[String]), (x, y): (f64, f64), inner: &str) {
    let label = escape(&[&[name.to_owned()], lines].concat().join("; "));
    let tip = escape(&[&[name.to_owned()], lines].concat().join("\n")).replace('\n', "&#10;");
    let tab = if first { "0" } else { "-1" };
    let _ = write!(
        out,
        "<g class=\"pt {class}\" tabindex=\"{tab}\" role=\"img\" aria-label=\"{label}\" data-tip=\"{tip}\">\
         <circle class=\"hit\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"11\"/>{inner}</g>"
    );
}

/// The shape of a series: a disc, a square, a triangle or a diamond, so that colours are not needed to tell series apart.
fn shape(series: usize, x: f64, y: f64) -> String {
    match series % 4 {
        0 => format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.6\"/>"),
        1 => format!("<path class=\"dot\" d=\"M{:.1} {:.1}h8.4v8.4h-8.4z\"/>", x - 4.2, y - 4.2),
        2 => format!("<path class=\"dot\" d=\"M{:.1} {:.1}l5.2 9h-10.4z\"/>", x, y - 5.6),
        _ => format!("<path class=\"dot\" d=\"M{:.1} {:.1}l5.6 5.6l-5.6 5.6l-5.6 -5.6z\"/>", x, y - 5.6),
    }
}

/// An interval: a line with a bar across each end.
fn whisker(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let (dx, dy) = if from.0 == to.0 { (4.0, 0.0) } else { (0.0, 4.0) };
    let _ = write!(out, "<path class=\"whisker\" d=\"M{:.1} {:.1}L{:.1} {:.1}", from.0, from.1, to.0, to.1);
    for (x, y) in [from, to] {
        let _ = write!(out, "M{:.1} {:.1}L{:.1} {:.1}", x - dx, y - dy, x + dx, y + dy);
    }
    *out += "\"/>";
}

fn line(places: &[(f64, f64)]) -> String {
    let step = |(i, (x, y)): (usize, &(f64, f64))| format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    places.iter().enumerate().map(step).collect()
}

fn text(out: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _ = write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(words));
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= ROW_NAME { name.to_owned() } else { name.chars().take(ROW_NAME - 1).chain(['…']).collect() }
}

fn flag(set: bool, class: &str) -> &str {
    if set { class } else { "" }
}

/// Names come from files: they stay text between tags and between quotes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{Better, Front, Mark, RowMarks, Scale, Scope, Series};

    fn point(label: &str, x: f64, y: f64) -> Point {
        Point { label: label.into(), x, y, y_range: Some((y * 0.5, y * 2.0)), lines: vec![format!("x {x}")], ..Point::default() }
    }

    fn chart(points: Vec<Point>) -> Chart {
        let series = vec![Series { name: "lanes".into(), line: false, points }];
        let plane = Plane {
            x: Axis::new("size", Scale::Linear),
            y: Axis::new("KLD", Scale::LogAbove(1e-6)),
            series,
            front: Some(Front { x: Better::Less, y: Better::Less, scope: Scope::All }),
        };
        Chart { title: "a \"title\"".into(), hint: String::new(), plot: Plot::Plane(plane) }
    }

    fn sample() -> Vec<Point> {
        vec![point("bf16", 16.0, 0.0), point("q8", 8.5, 1e-4), point("q4", 4.5, 1e-2), point("bad", 9.0, 2e-2)]
    }

    #[test]
    fn every_point_is_drawn_and_named_and_the_front_stands_out() {
        let svg = draw(&chart(sample()), false).unwrap();
        assert_eq!((svg.matches("<g class=\"pt").count(), svg.matches("class=\"dot\"").count()), (4, 4));
        assert_eq!(svg.matches("tabindex=\"0\"").count(), 1, "one stop of the tab key");
        for (label, class) in [("bf16", "name front"), ("q8", "name front"), ("q4", "name front"), ("bad", "name")] {
            let end = svg.find(&format!(">{label}</text>")).unwrap();
            let start = svg[..end].rfind("<text").unwrap();
            assert!(svg[start..end].contains(&format!("class=\"{class}\"")), "{label}");
        }
        assert_eq!(svg.matches("class=\"whisker\"").count(), 3, "what counts as 0 has no bar");
    }

    #[test]
    fn names_are_escaped() {
        let mut points = sample();
        points[1].label = "<script>&\"".into();
        points[1].lines = vec!["\"<b>".into()];
        let svg = draw(&chart(points), false).unwrap();
        assert!(
            !svg.contains("<script>")
                && !svg.contains("<b>")
                && svg.contains("data-tip=\"&lt;script&gt;&amp;&quot;&#10;&quot;&lt;b&gt;\"")
        );
    }

    #[test]
    fn of_a_crowd_only_the_front_is_named() {
        let svg = draw(
            &chart((0..200).map(|i| point(&format!("p{i}"), 1.0 + f64::from(i % 97), 1e-3 + f64::from(i))).collect()),
            false,
        )
        .unwrap();
        assert_eq!(svg.matches("<g class=\"pt").count(), 200);
        assert_eq!(svg.matches("class=\"name").count(), svg.matches("class=\"name front").count());
    }

    #[test]
    fn odd_points_are_left_out_or_make_no_chart() {
        assert_eq!(draw(&chart(Vec::new()), false), None);
        assert_eq!(draw(&chart(vec![point("a", f64::NAN, 1.0), point("b", 1.0, 1.0)]), false), None);
        let mut open = sample();
        open[1].y_range = Some((-1.0, f64::INFINITY));
        for points in [open, vec![point("a", 1.0, 0.0), point("b", 1.0, 0.0)], vec![point("a", 1.0, 1e-3), point("b", 1.0, 1e-3)]]
        {
            let svg = draw(&chart(points), false).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn rows_have_bars_or_intervals_for_every_series() {
        let mark = |value| Some(Mark { value, range: Some((value * 0.9, value * 1.1)), lines: vec!["x".into()] });
        let row = |label: &str, marks| RowMarks { label: label.into(), marks };
        let rows = |style| RowPlot {
            value: Axis::new("tokens/s", Scale::Linear),
            style,
            series: vec!["one".into(), "two".into()],
            rows: vec![row("a", vec![mark(3.0), None]), row(&"long ".repeat(20), vec![mark(1.0), mark(f64::NAN)])],
        };
        let svg = |style| draw(&Chart { title: "t".into(), hint: String::new(), plot: Plot::Rows(rows(style)) }, false).unwrap();
        let bars = svg(Style::Bars);
        assert_eq!((bars.matches("<rect").count(), bars.matches("class=\"dot\"").count()), (2, 0));
        let intervals = svg(Style::Intervals);
        assert_eq!((intervals.matches("<rect").count(), intervals.matches("class=\"dot\"").count()), (0, 2));
        assert!(intervals.contains("aria-label=\"a, one; x\"") && intervals.contains("…</text>"));
    }
}
