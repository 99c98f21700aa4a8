//! DejaVu Sans, which travels in the binary: its database for rendering, and the width of text for layout.

use std::sync::{Arc, LazyLock};

use resvg::usvg::fontdb::Database;

/// What SVG readers are asked for: the font itself, then Verdana, from which it inherited its widths.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// The weights in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// The two faces and nothing of the system's, so that figures are the same everywhere.
pub(super) static DATABASE: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut database = Database::new();
    for face in [dejavu::sans::regular(), dejavu::sans::bold()] {
        database.load_font_source(resvg::usvg::fontdb::Source::Binary(Arc::new(face)));
    }
    database.set_sans_serif_family("DejaVu Sans");
    Arc::new(database)
});

static REGULAR: LazyLock<Metrics> = LazyLock::new(|| Metrics::read(dejavu::sans::regular()));
static BOLD: LazyLock<Metrics> = LazyLock::new(|| Metrics::read(dejavu::sans::bold()));

/// Width of one line of text in pixels: the sum of its glyphs' advances, without kerning.
pub(super) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let metrics = match weight {
        Weight::Regular => &REGULAR,
        Weight::Bold => &BOLD,
    };
    text.chars().map(|letter| metrics.advance(letter)).sum::<f64>() * size
}

/// Lines no wider than `room` pixels: broken at spaces, within a long word after `-_:/.,=`, and between any two letters
/// where nothing else helps. At least one line, possibly empty.
pub(super) fn wrap(text: &str, size: f64, weight: Weight, room: f64) -> Vec<String> {
    let fits = |text: &str| width(text, size, weight) <= room;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let joined = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if fits(&joined) {
            *line = joined;
        } else if fits(word) {
            lines.push(word.to_string());
        } else {
            append_pieces(&mut lines, word, &fits);
        }
    }
    lines
}

fn append_pieces(lines: &mut Vec<String>, word: &str, fits: &impl Fn(&str) -> bool) {
    // Whatever of a word too long for a line goes behind a space that is already there.
    let mut lead = if lines.last().is_some_and(|line| !line.is_empty()) { " " } else { "" };
    for piece in word.split_inclusive(['-', '_', ':', '/', '.', ',', '=']) {
        let line = lines.last_mut().expect("there is always a line");
        let joined = format!("{line}{lead}{piece}");
        if fits(&joined) {
            *line = joined;
        } else if fits(piece) {
            lines.push(piece.to_string());
        } else {
            for letter in piece.chars() {
                let line = lines.last_mut().expect("there is always a line");
                if line.is_empty() || fits(&format!("{line}{lead}{letter}")) {
                    line.push_str(lead);
                    line.push(letter);
                } else {
                    lines.push(letter.to_string());
                }
                lead = "";
            }
        }
        lead = "";
    }
}

/// The three tables of a TrueType file that decide how wide text is (OpenType 1.9: `cmap` format 4, `hhea`, `hmtx`).
struct Metrics {
    units_per_em: f64,
    segments: &'static [u8],
    advances: &'static [u8],
    advances_count: usize,
}

impl Metrics {
    fn read(face: &'static [u8]) -> Self {
        let head = table(face, b"head");
        let hhea = table(face, b"hhea");
        Metrics {
            units_per_em: f64::from(u16_at(head, 18)),
            segments: unicode_segments(table(face, b"cmap")),
            advances: table(face, b"hmtx"),
            advances_count: usize::from(u16_at(hhea, 34)),
        }
    }

    /// Advance of a letter in em; that of the missing glyph where the font lacks it.
    fn advance(&self, letter: char) -> f64 {
        let glyph = self.glyph(letter).min(self.advances_count - 1);
        f64::from(u16_at(self.advances, 4 * glyph)) / self.units_per_em
    }

    fn glyph(&self, letter: char) -> usize {
        let Ok(code) = u16::try_from(u32::from(letter)) else { return 0 };
        let table = self.segments;
        let double = usize::from(u16_at(table, 6));
        for offset in (0..double).step_by(2) {
            if u16_at(table, 14 + offset) < code {
                continue;
            }
            let start = u16_at(table, 16 + double + offset);
            if start > code {
                return 0;
            }
            let delta = u16_at(table, 16 + 2 * double + offset);
            let place = 16 + 3 * double + offset;
            let range = usize::from(u16_at(table, place));
            if range == 0 {
                return usize::from(code.wrapping_add(delta));
            }
            let glyph = u16_at(table, place + range + 2 * usize::from(code - start));
            return if glyph == 0 { 0 } else { usize::from(glyph.wrapping_add(delta)) };
        }
        0
    }
}

fn u16_at(table: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([table[offset], table[offset + 1]])
}

fn u32_at(table: &[u8], offset: usize) -> usize {
    usize::from(u16_at(table, offset)) << 16 | usize::from(u16_at(table, offset + 2))
}

fn table(face: &'static [u8], tag: &[u8; 4]) -> &'static [u8] {
    (0..usize::from(u16_at(face, 4)))
        .map(|index| &face[12 + 16 * index..28 + 16 * index])
        .find(|record| &record[..4] == tag)
        .map(|record| &face[u32_at(record, 8)..u32_at(record, 8) + u32_at(record, 12)])
        .expect("DejaVu has every required table")
}

fn unicode_segments(cmap: &'static [u8]) -> &'static [u8] {
    (0..usize::from(u16_at(cmap, 2)))
        .map(|index| &cmap[u32_at(cmap, 8 + 8 * index)..])
        .find(|table| u16_at(table, 0) == 4)
        .expect("DejaVu maps the basic plane by segments")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_font_s_own() {
        // Advances in 2048ths of an em, read from the same file by fontTools 4 (see tests/generators/font_widths.py).
        for (letter, regular, bold) in GOLDEN {
            assert_eq!(width(&letter.to_string(), 2048.0, Weight::Regular), regular, "{letter}");
            assert_eq!(width(&letter.to_string(), 2048.0, Weight::Bold), bold, "{letter}");
        }
    }

    const GOLDEN: [(char, f64, f64); 7] = [
        ('a', 1255.0, 1382.0),
        ('W', 2025.0, 2259.0),
        (' ', 651.0, 713.0),
        ('0', 1303.0, 1425.0),
        ('é', 1260.0, 1389.0),
        ('λ', 1212.0, 1296.0),
        ('≤', 1716.0, 1716.0),
    ];

    #[test]
    fn wrapped_lines_fit_and_lose_nothing() {
        let text = "out-of-distribution: general_inoculation_realistic and Donaudampfschifffahrtsgesellschaft";
        for room in [20.0, 60.0, 90.0, 200.0, 2000.0] {
            let lines = wrap(text, 13.0, Weight::Regular, room);
            assert!(lines.iter().all(|line| width(line, 13.0, Weight::Regular) <= room), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
        assert_eq!(wrap(text, 13.0, Weight::Regular, 2000.0), [text]);
        assert_eq!(wrap("", 13.0, Weight::Regular, 50.0), [""]);
    }
}
