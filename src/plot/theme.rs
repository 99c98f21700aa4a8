//! How figures look: colours, markers, dashes, hatching and sizes, the same in every kind of figure.

/// Red, green, blue.
pub type Colour = (u8, u8, u8);

/// Text and strong lines.
pub const INK: Colour = (0x22, 0x22, 0x22);
/// Subtitle, caption, axis labels, references without a series.
pub const GREY: Colour = (0x59, 0x59, 0x59);
/// Axis lines and ticks.
pub const AXIS: Colour = (0x80, 0x80, 0x80);
/// The grid.
pub const GRID: Colour = (0xD4, 0xD4, 0xD4);
/// The paper.
pub const PAPER: Colour = (0xFF, 0xFF, 0xFF);

/// Pixels of the title.
pub const TITLE_SIZE: f64 = 18.0;
/// Pixels of everything that must be read: labels, ticks, subtitle.
pub const TEXT_SIZE: f64 = 14.0;
/// Pixels of tick and group labels.
pub const TICK_SIZE: f64 = 13.0;
/// Pixels of the caption.
pub const CAPTION_SIZE: f64 = 11.5;
/// Baseline to baseline, in units of the text size.
pub const LEADING: f64 = 1.3;
/// Free pixels around everything.
pub const MARGIN: f64 = 16.0;
/// A panel is never lower than this many pixels.
pub const PANEL_MIN: f64 = 180.0;
/// Part of the axis left free beyond its declared range, so that marks on the limits stay whole.
pub const BREATHING: f64 = 0.04;

/// Okabe and Ito (2008), "Color Universal Design": distinguishable with every common colour vision; ordered by contrast on
/// white, yellow last.
const COLOURS: [Colour; 8] = [
    (0x00, 0x72, 0xB2), // blue
    (0xD5, 0x5E, 0x00), // vermillion
    (0x00, 0x9E, 0x73), // bluish green
    (0xCC, 0x79, 0xA7), // reddish purple
    (0x00, 0x00, 0x00), // black
    (0xE6, 0x9F, 0x00), // orange
    (0x56, 0xB4, 0xE9), // sky blue
    (0xF0, 0xE4, 0x42), // yellow
];

/// Lengths of stroke and gap in pixels; empty for a solid line.
const DASHES: [&[f64]; 5] = [&[], &[9.0, 4.0], &[3.0, 3.0], &[10.0, 3.0, 3.0, 3.0], &[16.0, 4.0]];

/// Stroke and gap of reference lines, finer than any series'.
pub const REFERENCE_DASH: &[f64] = &[5.0, 4.0];
/// Stroke and gap of the grid.
pub const GRID_DASH: &[f64] = &[4.0, 4.0];

/// The shape of a mean's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square on its side.
    Square,
    /// A triangle, tip above.
    Up,
    /// A square on its corner.
    Diamond,
    /// A triangle, tip below.
    Down,
    /// A five-pointed star.
    Star,
    /// A hexagon.
    Hexagon,
}

const MARKERS: [Marker; 7] =
    [Marker::Circle, Marker::Square, Marker::Up, Marker::Diamond, Marker::Down, Marker::Star, Marker::Hexagon];

/// The lines drawn over a bar's colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hatch {
    /// None.
    Plain,
    /// From lower left to upper right.
    Rising,
    /// From upper left to lower right.
    Falling,
    /// Both.
    Crossed,
    /// Level lines.
    Level,
}

const HATCHES: [Hatch; 5] = [Hatch::Plain, Hatch::Rising, Hatch::Falling, Hatch::Level, Hatch::Crossed];

/// Everything that tells one series from another, with and without colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// Of line, mark and bar.
    pub colour: Colour,
    /// Of the means of a line.
    pub marker: Marker,
    /// Of the line.
    pub dash: &'static [f64],
    /// Of the bar.
    pub hatch: Hatch,
}

/// The style of the series at this place. Eight colours, seven markers and five dashes have no common factor, so the first 280
/// styles differ.
pub fn style(index: usize) -> Style {
    Style {
        colour: COLOURS[index % COLOURS.len()],
        marker: MARKERS[index % MARKERS.len()],
        dash: DASHES[index % DASHES.len()],
        hatch: HATCHES[index % HATCHES.len()],
    }
}

/// This colour over paper as if it covered `share` (0 to 1) of it: lightness without transparency, which printers and
/// PDF readers handle worse.
pub fn tint(colour: Colour, share: f64) -> Colour {
    let mix = |part: u8| (255.0 - (255.0 - f64::from(part)) * share).round() as u8;
    (mix(colour.0), mix(colour.1), mix(colour.2))
}

/// White on dark colours, ink on light ones (relative luminance of WCAG 2).
pub fn contrast(colour: Colour) -> Colour {
    let linear = |part: u8| (f64::from(part) / 255.0).powf(2.2);
    let luminance = 0.2126 * linear(colour.0) + 0.7152 * linear(colour.1) + 0.0722 * linear(colour.2);
    if luminance < 0.35 { PAPER } else { INK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_differ_without_colour_too() {
        for a in 0..35 {
            for b in 0..a {
                let (a, b) = (style(a), style(b));
                assert!(a.marker != b.marker || a.dash != b.dash, "{a:?}");
            }
        }
    }

    #[test]
    fn tint_runs_from_paper_to_colour() {
        assert_eq!(tint((10, 20, 30), 0.0), PAPER);
        assert_eq!(tint((10, 20, 30), 1.0), (10, 20, 30));
    }
}
