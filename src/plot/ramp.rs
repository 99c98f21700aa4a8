//! From values to colours: a ramp from pale to dark, or two that meet in 0, and the bar that explains them.

use super::axis::{Mapping, choose_labels, number, range_and_ticks};
use super::canvas::{Anchor, Canvas, Letters};
use super::figure::{Axis, Scale};
use super::font::{Weight, width};
use super::frame::{Panel, height_of, lines_of};
use super::theme::{AXIS, Colour, GREY, INK, LEADING, PAPER, TEXT_SIZE, TICK_SIZE};
use crate::error::Result;

/// Pixels from the panel to the bar.
const GAP: f64 = 18.0;
/// Pixels of the bar's width.
const BAR: f64 = 14.0;
/// Pixels of a tick and the gap before its number.
const TICK: f64 = 8.0;
/// Pixels between the numbers and the label.
const LABEL_GAP: f64 = 6.0;
/// Slices of the bar, enough to look smooth.
const SLICES: usize = 100;

/// A monotone map from values to colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    mapping: Mapping,
    range: (f64, f64),
    scale: Scale,
    diverging: bool,
    /// Place on the ramp of the lowest value, so that it is no paper.
    palest: f64,
}

impl Ramp {
    /// Pale at the lower end, dark at the upper one.
    pub fn rising(range: (f64, f64), scale: Scale, palest: f64) -> Ramp {
        let range = if range.0 < range.1 { range } else { widened(range.0, scale) };
        Ramp { mapping: Mapping::new(scale, range, (0.0, 1.0), (0.0, 0.0)), range, scale, diverging: false, palest }
    }

    /// Pale at 0, blue below and orange above, equally dark at equal distances.
    pub fn diverging(reach: f64) -> Ramp {
        let reach = if reach > 0.0 { reach } else { 1.0 };
        Ramp { diverging: true, ..Ramp::rising((-reach, reach), Scale::Linear, 0.0) }
    }

    /// The colour of a value; those beyond the range have that of its end.
    pub fn colour(&self, value: f64) -> Colour {
        let share = self.mapping.at(value).clamp(0.0, 1.0);
        match self.diverging {
            true if share < 0.5 => shade(1.0 - 2.0 * share, COLD, 0.40),
            true => shade(2.0 * share - 1.0, WARM, 0.40),
            false => shade(self.palest + (1.0 - self.palest) * share, COLD, 0.30),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let axis = Axis { scale: self.scale, range: Some(self.range), ..Axis::default() };
        range_and_ticks(&axis, &[], &[]).1
    }

    /// Pixels that the bar takes right of a panel of this height.
    pub fn room(&self, label: &str, height: f64) -> f64 {
        let lines = lines_of(label, TEXT_SIZE, Weight::Regular, height);
        let label = if lines.is_empty() { 0.0 } else { LABEL_GAP + height_of(&lines, TEXT_SIZE) };
        GAP + BAR + TICK + self.tick_width() + label
    }

    fn tick_width(&self) -> f64 {
        self.ticks().iter().map(|tick| width(&number(*tick), TICK_SIZE, Weight::Regular)).fold(0.0, f64::max)
    }

    /// Draws the bar right of the panel, from its lower to its upper edge, and along it what is measured.
    pub fn draw(&self, canvas: &mut Canvas, panel: Panel, label: &str) -> Result<()> {
        let (left, right) = (panel.right + GAP, panel.right + GAP + BAR);
        let edge = |slice: usize| (panel.bottom + (panel.top - panel.bottom) * slice as f64 / SLICES as f64).round();
        let along = Mapping::new(self.scale, self.range, (0.0, SLICES as f64), (0.0, 0.0));
        for slice in 0..SLICES {
            let value = self.value_at((slice as f64 + 0.5) / SLICES as f64);
            // Each slice reaches up to the end, below those that follow, so that no seams show between them.
            canvas.rectangle((left, panel.top), (right, edge(slice)), self.colour(value))?;
        }
        let frame =
            [(left, panel.top), (right, panel.top), (right, panel.bottom), (left, panel.bottom), (left, panel.top)];
        canvas.line(&frame, AXIS, 1.0)?;
        let at = |tick: f64| panel.bottom + (panel.top - panel.bottom) * along.at(tick) / SLICES as f64;
        let ticks = self.ticks();
        let places: Vec<_> = ticks.iter().map(|tick| (at(*tick), TICK_SIZE)).collect();
        for ((tick, (at, _)), keep) in ticks.iter().zip(&places).zip(choose_labels(&places, 2.0)) {
            canvas.line(&[(right, *at), (right + 4.0, *at)], AXIS, 1.0)?;
            if keep {
                canvas.text((right + TICK, at + 0.36 * TICK_SIZE), &number(*tick), Letters::new(TICK_SIZE, INK))?;
            }
        }
        let lines = lines_of(label, TEXT_SIZE, Weight::Regular, panel.bottom - panel.top);
        let first = right + TICK + self.tick_width() + LABEL_GAP;
        let letters = Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle).upward();
        for (row, line) in lines.iter().enumerate() {
            let baseline = first + (row as f64 * LEADING + 0.97) * TEXT_SIZE;
            canvas.text((baseline, (panel.top + panel.bottom) / 2.0), line, letters)?;
        }
        Ok(())
    }

    fn value_at(&self, share: f64) -> f64 {
        let (low, high) = self.range;
        match self.scale {
            Scale::Linear => low + (high - low) * share,
            Scale::Log => low * (high / low).powf(share),
        }
    }
}

/// One value still has a bar.
fn widened(value: f64, scale: Scale) -> (f64, f64) {
    match scale {
        Scale::Linear => (value - 0.5, value + 0.5),
        Scale::Log => (value / 2.0, value * 2.0),
    }
}

/// Hues in degrees at the pale and the dark end, blue and orange: a pair that every common colour vision tells apart.
const COLD: (f64, f64) = (215.0, 270.0);
const WARM: (f64, f64) = (75.0, 45.0);

/// A colour between pale (0) and dark (1), by equal steps of lightness in Oklab (Ottosson 2020), so that equal differences
/// look equal, in grey too.
fn shade(share: f64, hues: (f64, f64), darkest: f64) -> Colour {
    let lightness = 0.965 + (darkest - 0.965) * share;
    let chroma = 0.01 + 0.105 * (0.8 * std::f64::consts::PI * share).sin();
    let hue = (hues.0 + (hues.1 - hues.0) * share).to_radians();
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let cube = |x: f64| x * x * x;
    let long = cube(lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b);
    let medium = cube(lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b);
    let short = cube(lightness - 0.089_484_177_5 * a - 1.291_485_548 * b);
    let part = |linear: f64| {
        let curved = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
        (255.0 * curved.clamp(0.0, 1.0)).round() as u8
    };
    (
        part(4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short),
        part(-1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short),
        part(-0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701 * short),
    )
}

/// Paper or ink, whichever reads better on this colour (contrast ratio of WCAG 2.1): small numbers need more than the
/// hatching that [`super::theme::contrast`] is for.
pub(super) fn letters_on(colour: Colour) -> Colour {
    if contrast_ratio(PAPER, colour) > contrast_ratio(INK, colour) { PAPER } else { INK }
}

fn contrast_ratio(a: Colour, b: Colour) -> f64 {
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    a.max(b) / a.min(b)
}

/// Relative luminance of WCAG 2.1.
fn luminance(colour: Colour) -> f64 {
    let linear = |part: u8| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour.0) + 0.7152 * linear(colour.1) + 0.0722 * linear(colour.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lightness in Oklab, by the matrices from colour to Oklab that its author gives.
    fn lightness(colour: Colour) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        let (red, green, blue) = (linear(colour.0), linear(colour.1), linear(colour.2));
        let long = 0.412_221_470_8 * red + 0.536_332_536_3 * green + 0.051_445_992_9 * blue;
        let medium = 0.211_903_498_2 * red + 0.680_699_545_1 * green + 0.107_396_956_6 * blue;
        let short = 0.088_302_461_9 * red + 0.281_718_837_6 * green + 0.629_978_700_5 * blue;
        0.210_454_255_3 * long.cbrt() + 0.793_617_785 * medium.cbrt() - 0.004_072_046_8 * short.cbrt()
    }

    #[test]
    fn equal_steps_are_equally_light_steps() {
        for (hues, darkest) in [(COLD, 0.3), (COLD, 0.4), (WARM, 0.4)] {
            for step in 0..=20 {
                let share = f64::from(step) / 20.0;
                let wanted = 0.965 + (darkest - 0.965) * share;
                let found = lightness(shade(share, hues, darkest));
                assert!((found - wanted).abs() < 0.01, "{hues:?} {share}: {found} for {wanted}");
            }
        }
    }

    #[test]
    fn higher_is_darker_everywhere() {
        for scale in [Scale::Linear, Scale::Log] {
            let ramp = Ramp::rising((1.0, 100.0), scale, 0.1);
            let lights: Vec<f64> =
                (0..=40).map(|step| luminance(ramp.colour(ramp.value_at(f64::from(step) / 40.0)))).collect();
            assert!(lights.windows(2).all(|pair| pair[0] > pair[1]), "{lights:?}");
        }
    }

    #[test]
    fn differences_are_darker_the_farther_from_zero_and_their_sign_is_a_hue() {
        let ramp = Ramp::diverging(20.0);
        for step in 1..40 {
            let value = f64::from(step) / 2.0;
            let (cold, warm) = (ramp.colour(-value), ramp.colour(value));
            assert!(luminance(warm) < luminance(ramp.colour(value - 0.5)));
            assert!(luminance(cold) < luminance(ramp.colour(0.5 - value)));
            assert!(step < 4 || (cold.2 > cold.0 && warm.0 > warm.2), "{value}: {cold:?} {warm:?}");
        }
        let lowest = ramp.colour(0.0);
        assert!(luminance(lowest) > 0.85, "{lowest:?}");
    }

    #[test]
    fn beyond_the_range_is_its_end_and_one_value_has_a_colour() {
        let ramp = Ramp::rising((0.0, 1.0), Scale::Linear, 0.0);
        assert_eq!(ramp.colour(7.0), ramp.colour(1.0));
        assert_eq!(ramp.colour(-7.0), ramp.colour(0.0));
        assert_eq!(Ramp::rising((3.0, 3.0), Scale::Log, 0.0).range, (1.5, 6.0));
        assert_eq!(Ramp::diverging(0.0).range, (-1.0, 1.0));
    }

    proptest! {
        #[test]
        fn numbers_can_be_read_on_every_colour(share in 0f64..=1.0) {
            for ramp in [Ramp::rising((0.0, 1.0), Scale::Linear, 0.0), Ramp::diverging(1.0)] {
                let colour = ramp.colour(ramp.value_at(share));
                prop_assert!(contrast_ratio(letters_on(colour), colour) > 3.9, "{colour:?}");
            }
        }
    }
}
