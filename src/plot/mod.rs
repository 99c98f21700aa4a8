//! Figures: one SVG drawing from which PNG and PDF derive.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::error::{Error, Result};

mod axis;
mod bars;
mod binning;
mod canvas;
mod curve;
mod density;
mod dots;
mod font;
mod frame;
#[cfg(test)]
mod gallery;
mod heat;
mod histogram;
mod legend;
mod line;
mod names;
mod ramp;
#[cfg(test)]
mod samples;
mod scatter;
mod square;

pub mod figure;
pub mod palette;
pub mod theme;

use figure::{Figure, Kind};

/// Pixels per inch of an SVG file (CSS 2.1, section 4.3.2): a figure of 960 pixels is 10 inches wide.
const PIXELS_PER_INCH: f32 = 96.0;

/// Draws the figure. Equal figures give equal bytes. Text stays text, in DejaVu Sans or the reader's nearest to it.
///
/// # Errors
/// Nothing to draw, numbers that are not finite, names used twice: an input error that names the series.
pub fn svg(figure: &Figure) -> Result<String> {
    figure::check(figure)?;
    match &figure.kind {
        Kind::Line(line) => line::draw(figure, line),
        Kind::Bars(bars) => bars::draw(figure, bars),
        Kind::Curve(curve) => curve::draw(figure, curve),
        Kind::Dots(dots) => dots::draw(figure, dots),
        Kind::Heat(heat) => heat::draw(figure, heat),
        Kind::Scatter(scatter) => scatter::draw(figure, scatter),
        Kind::Density(density) => density::draw(figure, density),
        Kind::Histogram(histogram) => histogram::draw(figure, histogram),
    }
}

/// Paints an SVG drawing at `scale` pixels per pixel of the drawing.
///
/// # Errors
/// The text is no SVG, or the picture would have no pixels or too many.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let tree = parse(svg)?;
    let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
    let refused = || Error::input(format!("a picture of {width} x {height} pixels cannot be painted"));
    if !(1.0..=4e8).contains(&(width * height)) {
        return Err(refused());
    }
    let mut pixels = Pixmap::new(width.round() as u32, height.round() as u32).ok_or_else(refused)?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| Error::internal(format!("the picture could not be encoded: {error}")))
}

/// Writes an SVG drawing as a PDF of one page, with the letters it uses embedded. Equal drawings give equal pages but not
/// equal bytes: svg2pdf orders objects by randomly seeded hashes, so a PDF's digest is no identity.
///
/// # Errors
/// The text is no SVG.
pub fn pdf(svg: &str) -> Result<Vec<u8>> {
    let options = svg2pdf::ConversionOptions::default();
    svg2pdf::to_pdf(&parse(svg)?, options, svg2pdf::PageOptions { dpi: PIXELS_PER_INCH })
        .map_err(|error| Error::internal(format!("the page could not be written: {error}")))
}

fn parse(svg: &str) -> Result<Tree> {
    let options = Options {
        fontdb: Arc::clone(&font::DATABASE),
        font_family: "DejaVu Sans".to_string(),
        dpi: PIXELS_PER_INCH,
        ..Options::default()
    };
    Tree::from_str(svg, &options).map_err(|error| Error::input(format!("the drawing cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::gallery::gallery;
    use super::*;

    /// Attributes of every element of this name, in the order drawn.
    fn elements<'a>(svg: &'a str, name: &'a str) -> impl Iterator<Item = Vec<(&'a str, &'a str)>> {
        let lines = svg.lines().filter_map(move |line| line.strip_prefix('<')?.strip_prefix(name)?.strip_prefix(' '));
        lines.map(|line| {
            let parts: Vec<&str> = line.split('"').collect();
            parts.chunks_exact(2).map(|pair| (pair[0].trim().trim_end_matches('='), pair[1])).collect()
        })
    }

    fn attribute(element: &[(&str, &str)], name: &str) -> f64 {
        element.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap()
    }

    /// Every line of text with its box in pixels: left, top, right, bottom.
    fn text_boxes(svg: &str) -> Vec<(String, [f64; 4])> {
        let options = Options { fontdb: Arc::clone(&font::DATABASE), ..Options::default() };
        let tree = Tree::from_str(svg, &options).unwrap();
        fn collect(group: &resvg::usvg::Group, boxes: &mut Vec<(String, [f64; 4])>) {
            for node in group.children() {
                match node {
                    resvg::usvg::Node::Group(group) => collect(group, boxes),
                    resvg::usvg::Node::Text(text) => {
                        let edge = text.abs_bounding_box();
                        let letters = text.chunks().iter().map(|chunk| chunk.text()).collect::<String>();
                        let sides = [edge.left(), edge.top(), edge.right(), edge.bottom()];
                        boxes.push((letters, sides.map(f64::from)));
                    }
                    _ => {}
                }
            }
        }
        let mut boxes = Vec::new();
        collect(tree.root(), &mut boxes);
        boxes
    }

    #[test]
    #[ignore = "writes pictures for people: cargo test --release plot::tests::paint_the_gallery -- --ignored"]
    fn paint_the_gallery() {
        let folder = std::env::temp_dir().join("plot");
        std::fs::create_dir_all(&folder).unwrap();
        for (name, figure) in gallery() {
            let svg = svg(&figure).unwrap();
            std::fs::write(folder.join(format!("{name}.png")), png(&svg, 1.5).unwrap()).unwrap();
            std::fs::write(folder.join(format!("{name}.pdf")), pdf(&svg).unwrap()).unwrap();
            std::fs::write(folder.join(format!("{name}.svg")), svg).unwrap();
        }
    }

    #[test]
    #[ignore = "measures: cargo test --release plot::tests::measure -- --ignored --nocapture"]
    fn measure() {
        let figure = samples::lines(4, 6);
        for round in 0..6 {
            let start = std::time::Instant::now();
            let drawing = svg(&figure).unwrap();
            let drawn = start.elapsed();
            parse(&drawing).unwrap();
            let parsed = start.elapsed();
            let picture = png(&drawing, 2.0).unwrap();
            let painted = start.elapsed();
            let page = pdf(&drawing).unwrap();
            let written = start.elapsed();
            println!(
                "{round}: svg {drawn:?} ({} B), parse {:?}, parse + png {:?} ({} B), parse + pdf {:?} ({} B)",
                drawing.len(),
                parsed - drawn,
                painted - parsed,
                picture.len(),
                written - painted,
                page.len()
            );
        }
    }

    #[test]
    fn drawings_are_as_they_were_looked_at() {
        let mut figure = samples::lines(1, 2);
        figure.caption.clear();
        insta::assert_snapshot!("line", svg(&figure).unwrap());
        let mut figure = samples::bars(2, 2);
        figure.caption.clear();
        insta::assert_snapshot!("bars", svg(&figure).unwrap());
    }

    #[test]
    fn no_text_is_clipped_or_covers_another() {
        for (name, figure) in gallery() {
            let svg = svg(&figure).unwrap();
            let boxes = text_boxes(&svg);
            assert!(boxes.len() > 5, "{name}");
            let size = parse(&svg).unwrap().size();
            for (index, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
                let inside = *left >= 0.0
                    && *top >= 0.0
                    && *right <= f64::from(size.width())
                    && *bottom <= f64::from(size.height());
                assert!(inside, "{name}: `{text}` is clipped");
                for (other, [l, t, r, b]) in &boxes[..index] {
                    // Boxes are as high as the font's own lines, a little more than the letters in them.
                    let slack = 2.5;
                    let apart = *left >= r - 0.5 || *right <= l + 0.5 || *top >= b - slack || *bottom <= t + slack;
                    assert!(apart, "{name}: `{text}` covers `{other}`");
                }
            }
        }
    }

    #[test]
    fn every_series_group_and_reference_is_named() {
        for (name, figure) in gallery() {
            let words: String = text_boxes(&svg(&figure).unwrap()).into_iter().map(|(text, _)| text).collect();
            let words = words.replace(char::is_whitespace, "");
            let labels: Vec<&str> = match &figure.kind {
                Kind::Line(line) => {
                    let references = line.references.iter().map(|reference| &reference.label);
                    line.series.iter().map(|series| &series.label).chain(references).map(String::as_str).collect()
                }
                Kind::Bars(bars) => bars.groups.iter().map(|group| group.label.as_str()).chain(bars.series()).collect(),
                Kind::Curve(curve) => {
                    let traces = curve.traces.iter().map(|trace| &trace.label);
                    traces.chain(&curve.diagonal).map(String::as_str).collect()
                }
                Kind::Dots(dots) => dots.groups.iter().map(|group| group.label.as_str()).chain(dots.series()).collect(),
                Kind::Heat(heat) => {
                    let labels = heat.rows.iter().chain(&heat.columns);
                    labels.chain([&heat.x_label, &heat.y_label, &heat.value_label]).map(String::as_str).collect()
                }
                Kind::Scatter(scatter) => {
                    let marks = scatter.marks.iter().map(|mark| &mark.label);
                    marks.chain(&scatter.diagonal).map(String::as_str).collect()
                }
                Kind::Density(density) => density.panels.iter().map(|cloud| cloud.label.as_str()).collect(),
                Kind::Histogram(histogram) => histogram.rows.iter().map(|row| row.label.as_str()).collect(),
            };
            for label in labels {
                assert!(
                    words.contains(&palette::display_name(label).replace(char::is_whitespace, "")),
                    "{name}: `{label}` is missing"
                );
            }
        }
    }

    #[test]
    fn positions_are_monotone_in_the_data() {
        let figure = samples::lines(1, 6);
        let svg = svg(&figure).unwrap();
        // Seeds are the rings, drawn as a disc of paper and then the ring itself.
        let rings: Vec<(f64, f64)> = elements(&svg, "circle")
            .filter(|circle| circle.iter().any(|(key, value)| *key == "fill" && *value == "none"))
            .map(|circle| (attribute(&circle, "cx"), attribute(&circle, "cy")))
            .collect();
        let Kind::Line(line) = &figure.kind else { unreachable!() };
        let seeds: Vec<f64> = line.series[0].points.iter().flat_map(|point| point.seeds.clone()).collect();
        assert_eq!(rings.len(), seeds.len());
        let x: Vec<f64> = rings.chunks(3).map(|group| group.iter().map(|ring| ring.0).sum::<f64>() / 3.0).collect();
        assert!(x.windows(2).all(|pair| pair[0] < pair[1]), "{x:?}");
        // Ratios 0, 0.25 and 1 stand where 0, a quarter and the whole stand.
        assert!(((x[2] - x[0]) / (x[5] - x[0]) - 0.25).abs() < 1e-3, "{x:?}");
        let mut order: Vec<usize> = (0..seeds.len()).collect();
        order.sort_by(|a, b| seeds[*a].total_cmp(&seeds[*b]));
        assert!(order.windows(2).all(|pair| rings[pair[0]].1 >= rings[pair[1]].1));
        // Equal seeds stand beside each other.
        assert!(rings.chunks(3).all(|group| group[0].0 < group[1].0 && group[1].0 < group[2].0));
    }

    #[test]
    fn every_figure_reads_back_from_json() {
        for (name, figure) in gallery() {
            let text = serde_json::to_string(&figure).unwrap();
            assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure, "{name}");
        }
    }

    #[test]
    fn equal_figures_give_equal_bytes() {
        for (name, figure) in gallery() {
            assert_eq!(svg(&figure).unwrap(), svg(&figure.clone()).unwrap(), "{name}");
        }
        let drawing = svg(&samples::bars(2, 2)).unwrap();
        assert_eq!(png(&drawing, 1.0).unwrap(), png(&drawing, 1.0).unwrap());
    }

    #[test]
    fn pictures_can_be_read_and_show_something() {
        for figure in [samples::lines(2, 4), samples::bars(3, 2)] {
            let drawing = svg(&figure).unwrap();
            let picture = Pixmap::decode_png(&png(&drawing, 2.0).unwrap()).unwrap();
            assert_eq!((picture.width(), picture.height()), (1920, 960));
            let colours: HashSet<_> =
                picture.pixels().iter().map(|pixel| (pixel.red(), pixel.green(), pixel.blue())).collect();
            assert!(colours.len() > 50, "{}", colours.len());
            assert!(picture.pixels().iter().all(|pixel| pixel.alpha() == 255));
        }
    }

    #[test]
    fn letters_come_from_the_binary() {
        assert_eq!(font::DATABASE.len(), 2);
        let with = svg(&samples::bars(2, 1)).unwrap();
        let dark = |svg: &str| {
            let picture = Pixmap::decode_png(&png(svg, 1.0).unwrap()).unwrap();
            picture.pixels().iter().filter(|pixel| pixel.red() < 128).count()
        };
        let without: String = with.replace("<text ", "<metadata ").replace("</text>", "</metadata>");
        assert!(dark(&with) > dark(&without) + 1000);
    }

    #[test]
    fn a_page_is_one_and_carries_its_letters() {
        let page = pdf(&svg(&samples::lines(2, 3)).unwrap()).unwrap();
        let text = String::from_utf8_lossy(&page);
        assert!(text.starts_with("%PDF-"));
        assert_eq!(text.matches("/Type /Page\n").count(), 1);
        assert!(text.contains("/Count 1"));
        assert!(text.contains("+DejaVuSans"), "the font is not embedded");
        // 960 x 480 pixels at 96 per inch are 10 x 5 inches of 72 points.
        assert!(text.contains("/MediaBox [0 0 720 360]"));
    }

    #[test]
    fn what_is_no_drawing_is_refused() {
        assert!(png("<p>", 1.0).is_err());
        assert!(png(&svg(&samples::bars(1, 1)).unwrap(), f32::NAN).is_err());
        assert!(png(&svg(&samples::bars(1, 1)).unwrap(), 1e6).is_err());
    }
}
