//! Charts as values: points in a plane of two axes, with ranges, lines and a Pareto front; rows of bars or intervals; or a heat
//! map. `svg` draws them. Which values they hold is decided elsewhere.

use crate::pareto;

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// How to read it, in a few words.
    pub hint: String,
    /// What is drawn.
    pub plot: Plot,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Plot {
    /// Points by two values.
    Plane(Plane),
    /// Named rows by one value.
    Rows(RowPlot),
    /// Values by row and column.
    Heat(HeatMap),
}

/// Points in a plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Points by what they belong to (one model, one machine); more than one series gets a legend.
    pub series: Vec<Series>,
    /// The Pareto front to draw, if any.
    pub front: Option<Front>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it measures, with the unit.
    pub title: String,
    /// How values become places.
    pub scale: Scale,
}

impl Axis {
    /// An axis.
    pub fn new(title: impl Into<String>, scale: Scale) -> Self {
        Self { title: title.into(), scale }
    }
}

/// How values become places on an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal steps are equally long.
    Linear,
    /// Equal ratios are equally long; only what is above 0 can be drawn.
    Log,
    /// The same; what is below this bound counts as 0 and is drawn on a line of its own at the low end.
    LogAbove(f64),
}

impl Scale {
    /// Whether `value` has a place.
    pub fn holds(self, value: f64) -> bool {
        value.is_finite() && (self != Self::Log || value > 0.0)
    }

    /// Whether `value` is drawn on the line for 0.
    pub fn is_zero(self, value: f64) -> bool {
        matches!(self, Self::LogAbove(bound) if value < bound)
    }
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Whether a line joins the points in their order.
    pub line: bool,
    /// The points.
    pub points: Vec<Point>,
}

/// A point.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    /// Its name.
    pub label: String,
    /// Its horizontal value.
    pub x: f64,
    /// Its vertical value.
    pub y: f64,
    /// The ends of the horizontal value's interval.
    pub x_range: Option<(f64, f64)>,
    /// The ends of the vertical value's interval.
    pub y_range: Option<(f64, f64)>,
    /// What is shown when it is pointed at, below its name.
    pub lines: Vec<String>,
    /// Whether it stands out: the reference, or the pick.
    pub marked: bool,
    /// Whether its name is shown only when it is pointed at.
    pub unnamed: bool,
    /// Whether nothing should rest on its values: it is drawn hollow, and no front counts it.
    pub unsure: bool,
}

/// Which points have no better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The better end of the horizontal axis.
    pub x: Better,
    /// The better end of the vertical axis.
    pub y: Better,
    /// Whose points are compared.
    pub scope: Scope,
}

/// The better end of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Small values, such as sizes.
    Less,
    /// Large values, such as speeds.
    More,
}

/// Whose points a front compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One front over all points.
    All,
    /// A front for every series.
    EachSeries,
}

/// Named rows, from top to bottom.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPlot {
    /// The horizontal axis.
    pub value: Axis,
    /// How a value is drawn.
    pub style: Style,
    /// The names of the series; every row has a mark, or none, for each.
    pub series: Vec<String>,
    /// The rows.
    pub rows: Vec<RowMarks>,
}

/// How the value of a row is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar from the axis' low end, which is 0 where the scale is linear and no value is below it.
    Bars,
    /// A dot with its interval.
    Intervals,
}

/// A row of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowMarks {
    /// Its name.
    pub label: String,
    /// Its marks, by series.
    pub marks: Vec<Option<Mark>>,
}

/// The mark of one series in one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mark {
    /// Its value.
    pub value: f64,
    /// The ends of its interval.
    pub range: Option<(f64, f64)>,
    /// What is shown when it is pointed at, below the row's name.
    pub lines: Vec<String>,
}

/// Values by row and column, the stronger the larger they are: equal ratios are equal steps. What is not above 0 is an empty
/// frame.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// What the columns are.
    pub across: String,
    /// Their names, from left to right.
    pub columns: Vec<String>,
    /// The rows, from top to bottom; every row has a mark, or none, for each column.
    pub rows: Vec<RowMarks>,
    /// What values are, for the scale of colours.
    pub value: String,
    /// The ends of that scale, where several maps share one; [`Self::range`] otherwise.
    pub scale: Option<(f64, f64)>,
}

impl HeatMap {
    /// The least and the largest value that have a colour.
    pub fn range(&self) -> Option<(f64, f64)> {
        let values = self.rows.iter().flat_map(|row| row.marks.iter().flatten()).map(|mark| mark.value);
        values.filter(|&value| Scale::Log.holds(value)).fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })
    }
}

impl Plane {
    /// Points that can be drawn, with the numbers of their series.
    pub fn drawn(&self) -> Vec<(usize, &Point)> {
        let all = self.series.iter().enumerate().flat_map(|(i, s)| s.points.iter().map(move |p| (i, p)));
        all.filter(|(_, p)| self.x.scale.holds(p.x) && self.y.scale.holds(p.y)).collect()
    }

    /// For every point of [`Plane::drawn`] whether it lies on the front. What counts as 0 on an axis is equally good.
    pub fn on_front(&self) -> Vec<bool> {
        let drawn = self.drawn();
        let Some(front) = self.front else {
            return vec![false; drawn.len()];
        };
        let cost = |axis: &Axis, better: Better, value: f64| {
            let value = if axis.scale.is_zero(value) { 0.0 } else { value };
            if better == Better::Less { value } else { -value }
        };
        let group = |series: usize| if front.scope == Scope::All { 0 } else { series };
        let mut on_front = vec![false; drawn.len()];
        for wanted in 0..self.series.len() {
            let counts = |i: &usize| group(drawn[*i].0) == wanted && !drawn[*i].1.unsure;
            let members: Vec<usize> = (0..drawn.len()).filter(counts).collect();
            let costs = members.iter().map(|i| drawn[*i].1).map(|p| (cost(&self.x, front.x, p.x), cost(&self.y, front.y, p.y)));
            for (member, on) in members.iter().zip(pareto::front(&costs.collect::<Vec<_>>())) {
                on_front[*member] = on;
            }
        }
        on_front
    }

    /// The fronts' points, from left to right: the name of the series where there is a front for each, and the points' names.
    pub fn front_members(&self) -> Vec<(Option<&str>, Vec<&str>)> {
        let Some(front) = self.front else {
            return Vec::new();
        };
        let drawn = self.drawn();
        let mut members: Vec<(usize, &Point)> =
            drawn.into_iter().zip(self.on_front()).filter(|(_, on)| *on).map(|(p, _)| p).collect();
        members.sort_by(|a, b| a.1.x.total_cmp(&b.1.x));
        let labels = |wanted: Option<usize>| -> Vec<&str> {
            members.iter().filter(|(s, _)| wanted.is_none_or(|w| w == *s)).map(|(_, p)| p.label.as_str()).collect()
        };
        match front.scope {
            Scope::All => vec![(None, labels(None))],
            Scope::EachSeries => self.series.iter().enumerate().map(|(i, s)| (Some(s.name.as_str()), labels(Some(i)))).collect(),
        }
    }
}

impl Chart {
    /// The fronts in words: `On the Pareto front: a, b.`, one sentence a front.
    pub fn front_sentences(&self) -> Vec<String> {
        let Plot::Plane(plane) = &self.plot else {
            return Vec::new();
        };
        let say = |(series, labels): (Option<&str>, Vec<&str>)| {
            let of = series.map_or(String::new(), |s| format!(" of {s}"));
            (!labels.is_empty()).then(|| format!("On the Pareto front{of}: {}.", labels.join(", ")))
        };
        plane.front_members().into_iter().filter_map(say).collect()
    }

    /// The names of the series, where there is more than one.
    pub fn legend(&self) -> Vec<&str> {
        let names: Vec<&str> = match &self.plot {
            Plot::Plane(plane) => plane.series.iter().map(|s| s.name.as_str()).collect(),
            Plot::Rows(rows) => rows.series.iter().map(String::as_str).collect(),
            Plot::Heat(_) => Vec::new(),
        };
        if names.len() > 1 { names } else { Vec::new() }
    }

    /// Whether there is enough to draw: two points, or a row with a mark.
    pub fn can_be_drawn(&self) -> bool {
        match &self.plot {
            Plot::Plane(plane) => plane.drawn().len() > 1,
            Plot::Rows(rows) => rows.rows.iter().flat_map(|r| r.marks.iter().flatten()).any(|m| rows.value.scale.holds(m.value)),
            Plot::Heat(map) => map.range().is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, x: f64, y: f64) -> Point {
        Point { label: label.into(), x, y, ..Point::default() }
    }

    fn plane(x: Better, scope: Scope) -> Plane {
        let own = vec![point("bf16", 16.0, 0.0), point("q8", 8.5, 1e-4), point("q4", 4.5, 1e-2), point("bad", 9.0, 2e-2)];
        let other = vec![point("f16", 16.5, 1e-9), point("none", f64::NAN, 1.0)];
        Plane {
            x: Axis::new("size", Scale::Linear),
            y: Axis::new("KLD", Scale::LogAbove(1e-6)),
            series: vec![
                Series { name: "a".into(), line: false, points: own },
                Series { name: "b".into(), line: false, points: other },
            ],
            front: Some(Front { x, y: Better::Less, scope }),
        }
    }

    #[test]
    fn the_better_side_decides_the_front() {
        assert_eq!(plane(Better::Less, Scope::All).front_members(), [(None, vec!["q4", "q8", "bf16"])]);
        // What differs by rounding alone is as good as the reference, and farther right.
        assert_eq!(plane(Better::More, Scope::All).front_members(), [(None, vec!["f16"])]);
    }

    #[test]
    fn every_series_can_have_its_own_front() {
        let plane = plane(Better::Less, Scope::EachSeries);
        assert_eq!(plane.front_members(), [(Some("a"), vec!["q4", "q8", "bf16"]), (Some("b"), vec!["f16"])]);
    }

    #[test]
    fn an_unsure_point_is_drawn_and_on_no_front() {
        let mut plane = plane(Better::Less, Scope::All);
        plane.series[0].points[2].unsure = true;
        assert_eq!(plane.drawn().len(), 5);
        assert_eq!(plane.front_members(), [(None, vec!["q8", "bf16"])]);
    }

    #[test]
    fn what_has_no_place_is_not_drawn() {
        let mut plane = plane(Better::Less, Scope::All);
        assert_eq!(plane.drawn().len(), 5);
        plane.y.scale = Scale::Log;
        assert_eq!(plane.drawn().len(), 4, "0 has no place on a logarithmic axis");
        plane.series.truncate(1);
        plane.series[0].points.truncate(2);
        let chart = |plot| Chart { title: String::new(), hint: String::new(), plot };
        assert!(!chart(Plot::Plane(plane)).can_be_drawn(), "one point makes no chart");
    }
}
