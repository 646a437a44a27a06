//! From values to places along an axis: the range that holds them, and ticks at round values. Draws nothing.

use crate::chart::Scale;
use crate::number::significant;

/// An axis that knows its range and its ends on the paper.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DrawnAxis {
    scale: Scale,
    /// The least and the greatest value that is drawn.
    range: (f64, f64),
    /// Their places, in pixels.
    ends: (f64, f64),
}

impl DrawnAxis {
    /// An axis from `ends.0` to `ends.1` that holds `values` and, as far as they have a place, the ends of their intervals
    /// `around`. `from_zero` begins a linear axis at 0.
    pub fn new(scale: Scale, values: &[f64], around: &[f64], from_zero: bool, ends: (f64, f64)) -> Self {
        let above = |v: &&f64| v.is_finite() && (scale == Scale::Linear || (**v > 0.0 && !scale.is_zero(**v)));
        let (low, high) = values
            .iter()
            .chain(around)
            .filter(above)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let range = match scale {
            Scale::Linear if low > high => (0.0, 1.0),
            Scale::Linear => {
                let margin = if high > low { 0.07 * (high - low) } else { 0.1 * high.abs().max(1e-9) };
                let least = if from_zero { low.min(0.0) } else { (low - margin).max(0.0_f64.min(low)) };
                (least, high + margin)
            }
            Scale::Log if low > high => (1.0, 10.0),
            Scale::LogAbove(bound) if low > high => (bound, 10.0 * bound),
            // Below the least value there is room for what counts as 0.
            Scale::LogAbove(_) if values.iter().any(|v| scale.is_zero(*v)) => (low / 3.0, high * 1.6),
            Scale::Log | Scale::LogAbove(_) => (low / 1.6, high * 1.6),
        };
        Self { scale, range, ends }
    }

    /// Where a value is drawn: within the axis, and on its low end if it counts as 0.
    pub fn pixel(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        let part = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Log | Scale::LogAbove(_) if value <= low => 0.0,
            Scale::Log | Scale::LogAbove(_) => (value / low).log10() / (high / low).log10(),
        };
        self.ends.0 + part.clamp(0.0, 1.0) * (self.ends.1 - self.ends.0)
    }

    /// Places and names of the ticks, at least `room` pixels apart; the line of what counts as 0 is the first, where there is
    /// one.
    pub fn ticks(&self, room: f64, has_zero: bool) -> Vec<(f64, String)> {
        let zero = (has_zero && matches!(self.scale, Scale::LogAbove(_))).then(|| (self.ends.0, "0".to_owned()));
        let apart = |place: f64, other: f64| (place - other).abs() >= room;
        let mut ticks: Vec<(f64, String)> = zero.into_iter().collect();
        for (value, name) in if self.scale == Scale::Linear { self.linear(room) } else { self.logarithmic(room) } {
            let place = self.pixel(value);
            if ticks.iter().all(|(other, _)| apart(place, *other)) {
                ticks.push((place, name));
            }
        }
        ticks
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn linear(&self, room: f64) -> Vec<(f64, String)> {
        let (low, high) = self.range;
        let most = ((self.ends.1 - self.ends.0).abs() / room).max(1.0);
        let least = (high - low) / most;
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= least).unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let name = |value: f64| if value.abs() >= 1e7 { significant(value, 2) } else { format!("{value:.decimals$}") };
        let first = (low / step).ceil() as i64;
        (first..first + 64).map(|i| i as f64 * step).take_while(|v| *v <= high).map(|v| (v, name(v))).collect()
    }

    /// Powers of ten; with 2 and 5 times each where they are few, every so many where they are many.
    fn logarithmic(&self, room: f64) -> Vec<(f64, String)> {
        let (low, high) = (self.range.0.log10(), self.range.1.log10());
        let most = ((self.ends.1 - self.ends.0).abs() / room).max(1.0);
        let every = ((high - low) / most).ceil().max(1.0) as usize;
        let steps: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (low.floor() as i32..=high.ceil() as i32).step_by(every);
        powers
            .flat_map(|power| steps.iter().map(move |s| s * 10f64.powi(power)))
            .filter(|v| (self.range.0..=self.range.1).contains(v))
            .map(|v| (v, significant(v, 1)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scale: Scale, values: &[f64]) -> Vec<String> {
        let has_zero = values.iter().any(|v| scale.is_zero(*v));
        DrawnAxis::new(scale, values, &[], false, (0.0, 400.0)).ticks(64.0, has_zero).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_stand_at_round_values() {
        assert_eq!(names(Scale::Linear, &[0.68, 4.07]), ["1", "2", "3", "4"]);
        assert_eq!(names(Scale::Linear, &[0.0, 0.01]), ["0.000", "0.002", "0.004", "0.006", "0.008", "0.010"]);
        assert_eq!(names(Scale::Linear, &[812.0, 1520.0]), ["800", "1000", "1200", "1400"]);
        assert_eq!(names(Scale::Log, &[0.001, 20.0]), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(names(Scale::Log, &[3.0, 30.0]), ["2", "5", "10", "20"]);
    }

    #[test]
    fn what_is_only_rounding_stands_on_the_line_of_0_and_does_not_stretch_the_axis() {
        let scale = Scale::LogAbove(1e-6);
        let axis = DrawnAxis::new(scale, &[0.0, -5e-10, 1e-4, 1e-2], &[-1e-9, 1e-9], false, (300.0, 0.0));
        assert_eq!((axis.pixel(0.0), axis.pixel(-5e-10)), (300.0, 300.0));
        assert!(axis.pixel(1e-4) < 280.0);
        assert_eq!(names(scale, &[0.0, 1e-4, 1e-2]), ["0", "0.0001", "0.001", "0.01"]);
    }

    #[test]
    fn odd_values_still_make_an_axis() {
        for scale in [Scale::Linear, Scale::Log, Scale::LogAbove(1e-6)] {
            for values in [&[][..], &[0.0], &[1.0, 1.0], &[f64::NAN, 1e300], &[1e-300], &[-3.0, -1.0], &[1e18, 1e18 + 4096.0]] {
                let axis = DrawnAxis::new(scale, values, &[f64::INFINITY, -1.0], true, (40.0, 400.0));
                let inside = |place: f64| (40.0..=400.0).contains(&place);
                assert!(axis.ticks(40.0, true).iter().all(|(place, _)| inside(*place)), "{scale:?} {values:?}");
                assert!(values.iter().filter(|v| v.is_finite()).all(|v| inside(axis.pixel(*v))), "{scale:?} {values:?}");
            }
        }
    }
}
