//! Where the names of points are written in a chart, so that they cover neither points nor each other. Geometry only.

/// About how wide a character of a label is, in pixels: bold, in a wide font.
const CHARACTER: f64 = 8.6;
/// How high a label is.
const LINE: f64 = 15.0;

/// A rectangle in pixels: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect(pub f64, pub f64, pub f64, pub f64);

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

/// A point to be named.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named<'a> {
    /// Its place.
    pub at: (f64, f64),
    /// Its name.
    pub text: &'a str,
}

/// How wide a text is, about.
pub(super) fn width(text: &str) -> f64 {
    CHARACTER * text.chars().count() as f64
}

/// The places of the names: one after the other takes, of the places around its point, the first that covers the least of
/// `obstacles`, of the names placed before and of what is outside `paper`. `None` for a name that even there would cover another
/// name or leave the paper: it could not be read, nor could what it covers.
pub(super) fn place_labels(named: &[Named<'_>], obstacles: &[Rect], paper: &Rect) -> Vec<Option<Rect>> {
    let mut places: Vec<Option<Rect>> = Vec::with_capacity(named.len());
    for point in named {
        let outside = |r: &Rect| r.area() - r.overlap(paper);
        let covered = |r: &Rect| places.iter().flatten().map(|p| p.overlap(r)).sum::<f64>();
        let cost = |r: &Rect| 10.0 * (outside(r) + covered(r)) + obstacles.iter().map(|t| t.overlap(r)).sum::<f64>();
        let costs = candidates(point).into_iter().map(|r| (cost(&r), r));
        let best = costs.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, r)| r);
        let best = best.filter(|r| outside(r) + covered(r) <= 0.05 * r.area());
        places.push(best);
    }
    places
}

/// What names must not cover of a dot.
pub(super) fn dot((x, y): (f64, f64)) -> Rect {
    Rect(x - 5.0, y - 5.0, x + 5.0, y + 5.0)
}

/// Small squares along a line.
pub(super) fn along(from: (f64, f64), to: (f64, f64)) -> impl Iterator<Item = Rect> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let steps = (dx.hypot(dy) / 4.0).ceil().max(1.0) as usize;
    (0..=steps).map(move |step| {
        let part = step as f64 / steps as f64;
        let (x, y) = (from.0 + part * dx, from.1 + part * dy);
        Rect(x - 2.0, y - 2.0, x + 2.0, y + 2.0)
    })
}

/// The places for a name, the best first: right, left, above, below, then aslant, then all of them farther away.
fn candidates(point: &Named<'_>) -> Vec<Rect> {
    let ((x, y), width) = (point.at, width(point.text));
    let mut places = Vec::new();
    for gap in [8.0, 16.0, 26.0, 40.0, 56.0] {
        for (right, down) in
            [(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, -1.0), (-1.0, 1.0)]
        {
            let side = |direction: f64, size: f64, gap: f64| (direction - 1.0) / 2.0 * size + direction * gap;
            // Aslant, the gap is shared by both directions.
            let slant = if right != 0.0 && down != 0.0 { 0.7 } else { 1.0 };
            let left = x + side(right, width, gap * slant);
            let top = y + side(down, LINE, gap * slant);
            places.push(Rect(left, top, left + width, top + LINE));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(points: &[(f64, f64)], line: &[(f64, f64)]) {
        let named: Vec<Named<'_>> = points.iter().map(|at| Named { at: *at, text: "iq4_xs" }).collect();
        let along_line = line.windows(2).flat_map(|w| along(w[0], w[1]));
        let obstacles: Vec<Rect> = points.iter().map(|p| dot(*p)).chain(along_line).collect();
        let paper = Rect(70.0, 4.0, 560.0, 350.0);
        let places: Vec<Rect> = place_labels(&named, &obstacles, &paper).into_iter().map(Option::unwrap).collect();
        for (i, a) in places.iter().enumerate() {
            assert!(a.overlap(&paper) >= 0.95 * a.area(), "{a:?} leaves the paper");
            for b in &places[i + 1..] {
                assert!(a.overlap(b) <= 0.05 * a.area(), "{a:?} covers {b:?}");
            }
        }
    }

    #[test]
    fn names_of_near_points_do_not_cover_each_other() {
        check(&[(300.0, 200.0), (304.0, 203.0), (310.0, 199.0), (315.0, 206.0)], &[]);
        check(&[(540.0, 330.0), (544.0, 330.0)], &[(300.0, 280.0), (540.0, 330.0)]);
    }

    #[test]
    fn names_without_room_are_left_out_and_the_first_ones_stay() {
        let named = vec![Named { at: (50.0, 30.0), text: "iq4_xs" }; 40];
        let paper = Rect(0.0, 0.0, 100.0, 60.0);
        let places = place_labels(&named, &[], &paper);
        let drawn: Vec<Rect> = places.iter().copied().flatten().collect();
        assert!(places[0].is_some() && drawn.len() > 1 && drawn.len() < 10, "{places:?}");
        for (i, a) in drawn.iter().enumerate() {
            assert!(drawn[i + 1..].iter().all(|b| a.overlap(b) <= 0.05 * a.area()), "{drawn:?}");
        }
    }
}
