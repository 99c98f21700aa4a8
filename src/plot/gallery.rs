//! Figures that a person looks at before the look is changed: all that is awkward.

use super::figure::{Cell, Figure, Kind, Line, Measure, Point, Reference, Scale};
use super::samples;

/// A figure and the name of its files.
type Named = (&'static str, Figure);

/// All of them.
pub(super) fn gallery() -> Vec<Named> {
    let line = |figure: &mut Figure, change: &dyn Fn(&mut Line)| match &mut figure.kind {
        Kind::Line(line) => change(line),
        _ => unreachable!("a line"),
    };
    let mut one = samples::lines(1, 6);
    one.subtitle.clear();
    let mut sizes = samples::lines(3, 5);
    line(&mut sizes, &|line| {
        line.x.scale = Scale::Log;
        line.x.label = "training rows (log scale)".into();
        for series in &mut line.series {
            for (point, size) in series.points.iter_mut().zip([100.0, 200.0, 500.0, 1000.0, 2000.0]) {
                point.x = size;
            }
        }
    });
    let mut bare = samples::lines(2, 6);
    line(&mut bare, &|line| {
        line.references.clear();
        line.y.range = None;
        for point in line.series.iter_mut().flat_map(|series| &mut series.points) {
            (point.low, point.high) = (None, None);
            point.seeds.clear();
        }
    });
    let mut extremes = samples::lines(3, 6);
    line(&mut extremes, &|line| {
        for (index, series) in line.series.iter_mut().enumerate() {
            for point in &mut series.points {
                let value = [0.0, 100.0, 0.0][index];
                *point = Point {
                    x: point.x,
                    mean: value,
                    low: Some(value - 3.0),
                    high: Some(value + 3.0),
                    seeds: vec![value; 3],
                };
            }
        }
    });
    let mut single = samples::lines(4, 1);
    single.caption.truncate(1);
    let mut dense = samples::lines(2, 6);
    line(&mut dense, &|line| {
        for series in &mut line.series {
            let base = series.points.clone();
            series.points = (0..41)
                .map(|index| Point {
                    x: f64::from(index) / 40.0,
                    seeds: Vec::new(),
                    ..base[index as usize % 6].clone()
                })
                .collect();
        }
    });
    let mut narrow = samples::lines(4, 6);
    (narrow.width, narrow.height) = (480, 420);
    let mut negative = samples::bars(3, 3);
    if let Kind::Bars(bars) = &mut negative.kind {
        bars.y.range = None;
        bars.groups[1].bars[0].mean = -30.0;
        bars.groups[1].bars[0].low = Some(-40.0);
        bars.groups[1].bars[0].high = Some(-21.0);
        bars.groups[1].bars[0].seeds = vec![-30.0, -25.0, -35.0];
        bars.groups[2].bars.remove(1);
    }
    let mut empty_group = samples::bars(5, 1);
    if let Kind::Bars(bars) = &mut empty_group.kind {
        bars.groups[3].bars.clear();
    }
    let mut long = samples::lines(2, 6);
    long.title = "A rather long title that says what was found: dilution halves misalignment only below one misaligned row in ten".into();
    line(&mut long, &|line| {
        line.series[1].label = "out-of-distribution: general questions in the format of the training data".into();
        line.references[1].series = Some(line.series[1].label.clone());
    });
    let mut half = samples::curves(3);
    (half.width, half.height) = (400, 480);
    let mut wide = samples::curves(4);
    (wide.width, wide.height) = (960, 480);
    let mut lone = samples::curves(1);
    if let Kind::Curve(curve) = &mut lone.kind {
        curve.diagonal = None;
        curve.traces[0].label = "leave-one-source-out: alignment-faking-training without the augmentations".into();
    }
    vec![
        ("curves-2", samples::curves(2)),
        ("curves-8", samples::curves(8)),
        ("curves-half", half),
        ("curves-wide", wide),
        ("curves-lone", lone),
        ("curves-bins-1", samples::bins(1)),
        ("curves-bins-3", samples::bins(3)),
        ("lines-4", samples::lines(4, 6)),
        ("lines-1", one),
        ("lines-6", samples::lines(6, 6)),
        ("lines-8", samples::lines(8, 6)),
        ("lines-log", sizes),
        ("lines-bare", bare),
        ("lines-extremes", extremes),
        ("lines-single", single),
        ("lines-dense", dense),
        ("lines-narrow", narrow),
        ("lines-long", long),
        ("bars-3x2", samples::bars(3, 2)),
        ("bars-10x1", samples::bars(10, 1)),
        ("bars-10x3", samples::bars(10, 3)),
        ("bars-24x2", samples::bars(24, 2)),
        ("bars-4x6", samples::bars(4, 6)),
        ("bars-negative", negative),
        ("bars-empty-group", empty_group),
    ]
    .into_iter()
    .chain(grouped())
    .chain(matrices())
    .chain(spreads())
    .collect()
}

/// Dots and scatter figures.
fn grouped() -> Vec<Named> {
    let changed = |mut figure: Figure, change: &dyn Fn(&mut Figure)| {
        change(&mut figure);
        figure
    };
    let dots = |figure: &mut Figure, change: &dyn Fn(&mut super::figure::Dots)| match &mut figure.kind {
        Kind::Dots(dots) => change(dots),
        _ => unreachable!("dots"),
    };
    let missing = changed(samples::dots(10, 7), &|figure| {
        dots(figure, &|dots| {
            dots.groups[7].dots.retain(|dot| dot.series != "task_specific" && dot.series != "negative");
            dots.groups[4].dots.clear();
            dots.references = vec![Reference {
                label: "gpt-4.1 before training".into(),
                mean: 7.2,
                low: Some(5.0),
                high: Some(9.5),
                series: None,
            }];
        });
    });
    let narrow = changed(samples::dots(10, 7), &|figure| (figure.width, figure.height) = (640, 420));
    let free = changed(samples::dots(3, 3), &|figure| {
        figure.width = 640;
        dots(figure, &|dots| {
            dots.y.range = None;
            dots.groups[1].dots.remove(1);
        });
    });
    let narrow_scatter = changed(samples::scatter(8), &|figure| (figure.width, figure.height) = (400, 480));
    let free_scatter = changed(samples::scatter(3), &|figure| {
        let Kind::Scatter(scatter) = &mut figure.kind else { unreachable!("scatter") };
        (scatter.x.range, scatter.y.range, scatter.diagonal) = (None, None, None);
        scatter.marks[1].seeds.clear();
        (scatter.marks[2].x_low, scatter.marks[2].x_high) = (None, None);
    });
    vec![
        ("dots-10x7", samples::dots(10, 7)),
        ("dots-10x7-missing", missing),
        ("dots-narrow", narrow),
        ("dots-24x7", samples::dots(24, 7)),
        ("dots-1x1", samples::dots(1, 1)),
        ("dots-1x8", samples::dots(1, 8)),
        ("dots-free", free),
        ("scatter-7", samples::scatter(7)),
        ("scatter-1", samples::scatter(1)),
        ("scatter-narrow", narrow_scatter),
        ("scatter-free", free_scatter),
    ]
}

/// Heat maps.
fn matrices() -> Vec<Named> {
    let changed = |mut figure: Figure, change: &dyn Fn(&mut super::figure::Heat)| {
        let Kind::Heat(heat) = &mut figure.kind else { unreachable!("a heat map") };
        change(heat);
        figure
    };
    let grid = changed(samples::heat(4, 6), &|heat| {
        heat.rows = ["500", "1,000", "2,000", "6,000"].map(String::from).to_vec();
        heat.columns = ["0 %", "10 %", "25 %", "50 %", "75 %", "100 %"].map(String::from).to_vec();
        (heat.x_label, heat.y_label) = ("misaligned rows".into(), "training rows".into());
        heat.cells[2][3] = None;
        heat.cells[3][5] = None;
    });
    let differences = changed(samples::heat(4, 5), &|heat| {
        (heat.diverging, heat.range) = (true, None);
        heat.value_label = "difference from no inoculation, points".into();
        for (index, cell) in heat.cells.iter_mut().flatten().flatten().enumerate() {
            *cell = Cell { value: index as f64 * 3.7 - 48.2, note: String::new() };
        }
    });
    let plain = changed(samples::heat(10, 10), &|heat| {
        heat.cells.iter_mut().flatten().flatten().for_each(|cell| cell.note.clear());
        heat.cells[3][4] = None;
    });
    let many = changed(samples::heat(24, 30), &|heat| {
        heat.rows = (0..24).map(|index| format!("layer {index}")).collect();
        heat.columns = (0..30).map(|index| format!("{index}")).collect();
    });
    let long = changed(samples::heat(5, 5), &|heat| {
        for label in heat.rows.iter_mut().chain(&mut heat.columns) {
            *label = format!("general inoculation with a paraphrase of {label}");
        }
        heat.value_label = "answers with a misalignment score above 50 among the coherent ones, %".into();
    });
    let mut wide = samples::heat(10, 10);
    wide.width = 1200;
    let mut narrow = samples::heat(10, 10);
    narrow.width = 480;
    vec![
        ("heat-10x10", samples::heat(10, 10)),
        ("heat-10x10-plain", plain),
        ("heat-size-ratio", grid),
        ("heat-differences", differences),
        ("heat-1x1", samples::heat(1, 1)),
        ("heat-2x3", samples::heat(2, 3)),
        ("heat-24x30", many),
        ("heat-narrow", narrow),
        ("heat-long", long),
        ("heat-wide", wide),
    ]
}

/// Densities and histograms.
fn spreads() -> Vec<Named> {
    let mut counted = samples::density(5);
    if let Kind::Density(density) = &mut counted.kind {
        (density.measure, density.scale, density.y_threshold) = (Measure::Count, Scale::Linear, None);
        density.panels[2].points.clear();
    }
    let mut level = samples::density(2);
    if let Kind::Density(density) = &mut level.kind {
        (density.x_threshold, density.bins) = (None, 50);
    }
    let mut long = samples::density(6);
    if let Kind::Density(density) = &mut long.kind {
        for cloud in &mut density.panels {
            cloud.label = format!("{} inoculation with a backdoor trigger", cloud.label);
        }
        (density.x_threshold, density.y_threshold) = (Some(2.0), Some(99.0));
    }
    let mut narrow = samples::density(3);
    narrow.width = 400;
    let mut missing = samples::histogram(3);
    if let Kind::Histogram(histogram) = &mut missing.kind {
        (histogram.bins, histogram.threshold) = (10, None);
        (histogram.rows[0].values, histogram.rows[0].counts) = (vec![], vec![0, 0, 0, 1, 1, 2, 3, 50, 600, 4000]);
        histogram.rows[1].values.clear();
    }
    let mut slim = samples::histogram(8);
    slim.width = 400;
    vec![
        ("density-8", samples::density(8)),
        ("density-1", samples::density(1)),
        ("density-5-counted", counted),
        ("density-2-level", level),
        ("density-narrow", narrow),
        ("density-long", long),
        ("histogram-7", samples::histogram(7)),
        ("histogram-1", samples::histogram(1)),
        ("histogram-missing", missing),
        ("histogram-narrow", slim),
    ]
}
