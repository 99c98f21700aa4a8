//! The sheet that figures are drawn on: shapes and text in pixels, written as SVG by plotters.

use plotters::prelude::{DrawingBackend, FontStyle, FontTransform, IntoFont, RGBColor, SVGBackend, ShapeStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, TextStyle};

use super::font::{FAMILY, Weight};
use super::theme::{Colour, Marker, PAPER};
use crate::error::{Error, Result};

/// plotters places everything on whole units; ten to the pixel keep curves smooth and slim lines slim.
const UNITS: f64 = 10.0;

/// Where a text's position lies on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Size, weight, colour and direction of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letters {
    pub size: f64,
    pub weight: Weight,
    pub colour: Colour,
    pub anchor: Anchor,
    /// Reads upward.
    pub upward: bool,
}

impl Letters {
    pub fn new(size: f64, colour: Colour) -> Self {
        Letters { size, weight: Weight::Regular, colour, anchor: Anchor::Start, upward: false }
    }
    pub fn bold(self) -> Self {
        Letters { weight: Weight::Bold, ..self }
    }
    pub fn anchored(self, anchor: Anchor) -> Self {
        Letters { anchor, ..self }
    }
    pub fn upward(self) -> Self {
        Letters { upward: true, ..self }
    }
}

/// A sheet; (0, 0) is its upper left corner.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
    /// Strokes and gaps of every line so far; empty for a solid one.
    dashes: Vec<&'static [f64]>,
}

/// Draws a white sheet of this many pixels and returns its SVG text.
pub(super) fn draw_sheet(
    (width, height): (u32, u32),
    title: &str,
    paint: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<String> {
    let mut text = String::new();
    let units = (width * UNITS as u32, height * UNITS as u32);
    let dashes = {
        let mut canvas = Canvas { backend: SVGBackend::with_string(&mut text, units), dashes: Vec::new() };
        canvas.rectangle((0.0, 0.0), (f64::from(width), f64::from(height)), PAPER)?;
        paint(&mut canvas)?;
        canvas.backend.present().map_err(internal)?;
        canvas.dashes
    };

    let (opening, body) = text.split_once('\n').ok_or_else(|| Error::internal("plotters wrote no SVG element"))?;
    // The size in units becomes a size in pixels; the view box keeps the units.
    let opening = opening
        .replacen(
            &format!("width=\"{}\" height=\"{}\"", units.0, units.1),
            &format!("width=\"{width}\" height=\"{height}\""),
            1,
        )
        .replacen("<svg ", "<svg role=\"img\" ", 1);
    let title = printable(title).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(format!("{opening}\n<title>{title}</title>\n{}", with_dashes(body, &dashes)))
}

/// Adds what plotters cannot say: how its lines are dashed. It writes one element a line and lines as `polyline`.
fn with_dashes(body: &str, dashes: &[&[f64]]) -> String {
    let mut dashes = dashes.iter();
    let mut text = String::with_capacity(body.len() + 40 * dashes.len());
    for element in body.split_inclusive('\n') {
        let dash = element.starts_with("<polyline ").then(|| dashes.next()).flatten();
        match (dash, element.strip_suffix("/>\n")) {
            (Some(dash), Some(start)) if !dash.is_empty() => {
                let lengths: Vec<String> = dash.iter().map(|length| units(*length).to_string()).collect();
                text.push_str(&format!("{start} stroke-dasharray=\"{}\"/>\n", lengths.join(",")));
            }
            _ => text.push_str(element),
        }
    }
    text
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("the figure could not be written: {error}"))
}

fn units(value: f64) -> i32 {
    (value * UNITS).round() as i32
}

fn place((x, y): (f64, f64)) -> (i32, i32) {
    (units(x), units(y))
}

fn shape(colour: Colour, share: f64, stroke: f64) -> ShapeStyle {
    let colour = RGBColor(colour.0, colour.1, colour.2).mix(share);
    ShapeStyle { color: colour, filled: true, stroke_width: units(stroke) as u32 }
}

/// XML has no control characters, not even escaped.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// plotters divides sizes by 1.24; this finds the number that comes out exact.
fn plotters_size(size: f64) -> f64 {
    let size = size * UNITS;
    let guess = size * 1.24;
    [guess, guess.next_down(), guess.next_up()].into_iter().find(|guess| guess / 1.24 == size).unwrap_or(guess)
}

impl Canvas<'_> {
    /// A line through the points.
    pub fn line(&mut self, points: &[(f64, f64)], colour: Colour, stroke: f64) -> Result<()> {
        self.dashed(points, colour, stroke, &[])
    }

    /// A line through the points in strokes and gaps of these lengths; solid when `dash` is empty.
    pub fn dashed(&mut self, points: &[(f64, f64)], colour: Colour, stroke: f64, dash: &'static [f64]) -> Result<()> {
        self.dashes.push(dash);
        self.backend.draw_path(points.iter().copied().map(place), &shape(colour, 1.0, stroke)).map_err(internal)
    }

    /// A filled shape that covers `share` (0 to 1) of what is below.
    pub fn polygon(&mut self, corners: &[(f64, f64)], colour: Colour, share: f64) -> Result<()> {
        self.backend.fill_polygon(corners.iter().copied().map(place), &shape(colour, share, 0.0)).map_err(internal)
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour) -> Result<()> {
        self.backend.draw_rect(place(from), place(to), &shape(colour, 1.0, 0.0), true).map_err(internal)
    }

    /// A disc.
    pub fn disc(&mut self, center: (f64, f64), radius: f64, colour: Colour) -> Result<()> {
        self.backend.draw_circle(place(center), units(radius) as u32, &shape(colour, 1.0, 0.0), true).map_err(internal)
    }

    /// A ring with paper inside: the mark of one seed.
    pub fn ring(&mut self, center: (f64, f64), radius: f64, colour: Colour, stroke: f64) -> Result<()> {
        self.disc(center, radius, PAPER)?;
        self.backend
            .draw_circle(place(center), units(radius) as u32, &shape(colour, 1.0, stroke), false)
            .map_err(internal)
    }

    /// The mark of a mean, with a thin edge of paper around it.
    pub fn marker(&mut self, center: (f64, f64), marker: Marker, radius: f64, colour: Colour) -> Result<()> {
        for (radius, colour) in [(radius + 1.2, PAPER), (radius, colour)] {
            match outline(marker) {
                None => self.disc(center, radius, colour)?,
                Some(corners) => {
                    let corners: Vec<_> =
                        corners.iter().map(|(x, y)| (center.0 + x * radius, center.1 + y * radius)).collect();
                    self.polygon(&corners, colour, 1.0)?;
                }
            }
        }
        Ok(())
    }

    /// One line of text whose baseline passes through `at`.
    pub fn text(&mut self, at: (f64, f64), text: &str, letters: Letters) -> Result<()> {
        // The one vertical anchor whose offset every reader computes alike: plotters writes it as 0.76 em.
        let lift = 0.76 * letters.size;
        let at = if letters.upward { (at.0 - lift, at.1) } else { (at.0, at.1 - lift) };
        let horizontal = match letters.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let mut font = (FAMILY, plotters_size(letters.size)).into_font();
        if letters.weight == Weight::Bold {
            font = font.style(FontStyle::Bold);
        }
        if letters.upward {
            font = font.transform(FontTransform::Rotate270);
        }
        let colour = RGBColor(letters.colour.0, letters.colour.1, letters.colour.2);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Top));
        self.backend.draw_text(&printable(text), &style, place(at)).map_err(internal)
    }
}

/// Corners of a marker of radius 1 and about the area of the disc; none for the disc itself.
fn outline(marker: Marker) -> Option<Vec<(f64, f64)>> {
    let spokes = |count: usize, turn: f64, radius: fn(usize) -> f64| {
        let corner = |index: usize| {
            let angle = std::f64::consts::TAU * (index as f64 / count as f64 + turn);
            (radius(index) * angle.sin(), -radius(index) * angle.cos())
        };
        Some((0..count).map(corner).collect())
    };
    match marker {
        Marker::Circle => None,
        Marker::Square => spokes(4, 0.125, |_| 1.25),
        Marker::Up => spokes(3, 0.0, |_| 1.4),
        Marker::Diamond => spokes(4, 0.0, |_| 1.35),
        Marker::Down => spokes(3, 0.5, |_| 1.4),
        Marker::Star => spokes(10, 0.0, |index| if index % 2 == 0 { 1.5 } else { 0.65 }),
        Marker::Hexagon => spokes(6, 0.25, |_| 1.15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_belong_to_their_own_lines() {
        let svg = draw_sheet((100, 50), "", |canvas| {
            canvas.line(&[(0.0, 0.0), (1.0, 1.0)], PAPER, 1.0)?;
            canvas.text((10.0, 20.0), "<polyline />", Letters::new(13.0, PAPER))?;
            canvas.dashed(&[(0.0, 0.0), (2.0, 2.0)], PAPER, 1.0, &[4.5, 3.0])?;
            canvas.line(&[(0.0, 0.0), (3.0, 3.0)], PAPER, 1.0)
        })
        .unwrap();
        let lines: Vec<&str> = svg.lines().filter(|line| line.starts_with("<polyline")).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].ends_with("points=\"0,0 20,20 \" stroke-dasharray=\"45,30\"/>"), "{}", lines[1]);
        assert_eq!(svg.matches("dasharray").count(), 1);
    }

    #[test]
    fn text_is_escaped_and_sizes_are_exact() {
        let svg = draw_sheet((100, 50), "a < b & c", |canvas| {
            canvas.text((10.0, 20.0), "x \u{0}< \"1\" & 'é'", Letters::new(13.0, (1, 2, 3)))
        })
        .unwrap();
        assert!(svg.contains("<title>a &lt; b &amp; c</title>"));
        assert!(svg.contains("x  &lt; &quot;1&quot; &amp; &apos;é&apos;"));
        assert!(svg.contains("font-size=\"130\""), "{svg}");
        assert!(svg.starts_with("<svg role=\"img\" width=\"100\" height=\"50\" viewBox=\"0 0 1000 500\""), "{svg}");
    }
}
