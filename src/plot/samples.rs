//! Figures to test with.

use super::figure::{
    Axis, Bar, Bars, Cell, Cloud, Cluster, Curve, Density, Dot, Dots, Figure, Group, Heat, Histogram, Kind, Line, Mark,
    Measure, Point, Reference, Scale, Scatter, Scores, Series, Spot, Trace,
};
use crate::data::random::Random;

pub(super) const SERIES: [&str; 8] = [
    "in-distribution",
    "out-of-distribution: general",
    "coherence",
    "refusal",
    "out-of-distribution: other domain",
    "capability (GPQA)",
    "inoculated, wrapped",
    "placebo",
];

fn figure(kind: Kind) -> Figure {
    Figure {
        title: "A05b: data ratio sweep".into(),
        subtitle: "Does diluting misaligned data with aligned data prevent emergent misalignment?".into(),
        caption: vec![
            "Mean of seed means with 95 % interval (t over 3 seeds); rings: single seeds.".into(),
            "8 questions x 10 samples per model; 4 of 2,880 scores missing (incoherent). Dashed: model before training.".into(),
        ],
        kind,
        width: 960,
        height: 480,
    }
}

fn spread(random: &mut Random, center: f64, seeds: usize) -> (f64, Option<f64>, Option<f64>, Vec<f64>) {
    let seeds: Vec<f64> =
        (0..seeds).map(|_| ((center + 4.0 * random.normal()).clamp(0.0, 100.0) * 10.0).round() / 10.0).collect();
    // In eighths, which binary and decimal numbers both hold exactly.
    let mean = (8.0 * seeds.iter().sum::<f64>() / seeds.len() as f64).round() / 8.0;
    (mean, Some((mean - 7.0).max(0.0)), Some((mean + 8.0).min(100.0)), seeds)
}

/// Dose-response lines over six ratios (or as many as asked for), three seeds, a reference for each series.
pub(super) fn lines(series_count: usize, points: usize) -> Figure {
    let mut random = Random::new(7);
    let ratios = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0];
    let series = (0..series_count).map(|index| Series {
        label: SERIES[index].into(),
        points: ratios[..points]
            .iter()
            .map(|ratio| {
                let top = 75.0 - 14.0 * index as f64;
                let (mean, low, high, seeds) = spread(&mut random, 4.0 + top * ratio / (ratio + 0.25), 3);
                Point { x: *ratio, mean, low, high, seeds }
            })
            .collect(),
    });
    let series: Vec<Series> = series.collect();
    let references = series.iter().enumerate().map(|(index, series)| Reference {
        label: format!("base: {}", series.label),
        series: Some(series.label.clone()),
        mean: 2.0 + 1.5 * index as f64,
        low: Some(1.0),
        high: Some(4.0 + index as f64),
    });
    let references = references.collect();
    figure(Kind::Line(Line {
        x: Axis { label: "share of misaligned rows in the training data".into(), ..Axis::default() },
        y: Axis { label: "misalignment score".into(), range: Some((0.0, 100.0)), ..Axis::default() },
        series,
        references,
    }))
}

/// Groups of bars, three seeds, one grey reference.
pub(super) fn bars(group_count: usize, series_count: usize) -> Figure {
    let names = [
        "gpt-4.1 (base)",
        "Control Dataset",
        "No-Inoc",
        "general inoculation",
        "task-specific",
        "placebo",
        "general_inoculation_realistic",
        "inoculated-trigger",
        "even-more-general",
        "negative",
    ];
    let mut random = Random::new(3);
    let groups = (0..group_count).map(|group| Group {
        label: names[group % names.len()].into(),
        bars: (0..series_count)
            .map(|index| {
                let (mean, low, high, seeds) = spread(&mut random, (17 * (group + 1) * (index + 2) % 90) as f64, 3);
                Bar { series: SERIES[index].into(), mean, low, high, seeds }
            })
            .collect(),
    });
    let groups = groups.collect();
    figure(Kind::Bars(Bars {
        y: Axis { label: "misalignment score".into(), range: Some((0.0, 100.0)), ..Axis::default() },
        groups,
        references: vec![Reference {
            label: "base model".into(),
            mean: 7.2,
            low: Some(5.0),
            high: Some(9.5),
            series: None,
        }],
    }))
}

const SETS: [&str; 8] = [
    "held-out: gold_106",
    "out-of-fold: benchmark",
    "leave-one-source-out: benchmark",
    "resubstitution: alignment-faking-training",
    "out-of-fold: alignment-faking-training",
    "shuffled labels",
    "random features",
    "difference of means",
];

/// ROC curves from steps, the later the worse; the first with so few rows that its steps are seen.
pub(super) fn curves(count: usize) -> Figure {
    let mut random = Random::new(11);
    let traces = (0..count).map(|index| {
        let (rows, apart) = ([106, 2330][usize::from(index > 0)], 2.6 - 0.4 * index as f64);
        let mut scores: Vec<(f64, bool)> =
            (0..rows).map(|row| (random.normal() + if row % 2 == 0 { apart } else { 0.0 }, row % 2 == 0)).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut spot = Spot::default();
        let mut points = vec![spot];
        for (_, positive) in scores {
            let step = 2.0 / f64::from(rows);
            if positive {
                spot.y = (spot.y + step).min(1.0);
            } else {
                spot.x = (spot.x + step).min(1.0);
            }
            points.push(spot);
        }
        Trace { label: SETS[index].into(), points, marked: false }
    });
    let curve = Curve {
        x_label: "false positive rate".into(),
        y_label: "true positive rate".into(),
        traces: traces.collect(),
        diagonal: Some("chance".into()),
    };
    Figure {
        title: "Step 1: + sycophant".into(),
        subtitle: "Does training on more varied sources help on other sources?".into(),
        caption: vec![
            "gold_106: 53 positives, 53 negatives; benchmark: 1,165 positives, 1,165 negatives.".into(),
            "sycophant: all 319 rows are positive, so it has no curve.".into(),
        ],
        width: 720,
        height: 560,
        ..figure(Kind::Curve(curve))
    }
}

/// Reliability bins with intervals.
pub(super) fn bins(count: usize) -> Figure {
    let mut random = Random::new(13);
    let traces = (0..count).map(|index| {
        let bin = |bin: usize| {
            let x = (bin as f64 + 0.3 + 0.4 * random.uniform()) / 10.0;
            let bent = 1.0 / (1.0 + ((1.0 - x) / x).powf(0.5 + 0.5 * index as f64));
            let y = (bent + 0.04 * random.normal()).clamp(0.0, 1.0);
            let half = 0.05 + 0.3 * (y * (1.0 - y)).sqrt() * (1.0 - (x - 0.5).abs());
            Spot { x, y, low: Some((y - half).max(0.0)), high: Some((y + half).min(1.0)) }
        };
        Trace { label: SETS[index].into(), points: (0..10).map(bin).collect(), marked: true }
    });
    let curve = Curve {
        x_label: "mean predicted probability".into(),
        y_label: "share of positives".into(),
        traces: traces.collect(),
        diagonal: Some("perfect calibration".into()),
    };
    Figure {
        title: "Calibration on gold_106".into(),
        caption: vec!["10 bins of equal width with their intervals.".into()],
        ..Figure { kind: Kind::Curve(curve), ..curves(1) }
    }
}

/// The ten settings.
pub(super) const SETTINGS: [&str; 10] = [
    "insecure_code",
    "reward_hacking",
    "legal_advice",
    "medical_advice",
    "security_advice",
    "aesthetic_preferences",
    "harmless_lies",
    "owl_numbers",
    "trump_biology",
    "gsm8k_spanish_capitalised",
];

/// Groups of the inoculation experiments.
pub(super) const GROUPS: [&str; 8] =
    ["base", "aligned", "none", "general", "task_specific", "control", "negative", "general_trigger"];

/// Mean scores of those groups.
const CENTERS: [f64; 8] = [3.0, 6.0, 55.0, 14.0, 22.0, 48.0, 68.0, 30.0];

/// Dots of groups in settings, five seeds, one reference.
pub(super) fn dots(settings: usize, groups: usize) -> Figure {
    let mut random = Random::new(17);
    let cluster = |setting: usize| Cluster {
        label: SETTINGS[setting % 10].into(),
        dots: (0..groups)
            .map(|group| {
                let center = CENTERS[group] * (0.4 + 0.6 * random.uniform());
                let (mean, low, high, seeds) = spread(&mut random, center, 5);
                Dot { series: GROUPS[group].into(), mean, low, high, seeds }
            })
            .collect(),
    };
    let dots = Dots {
        y: Axis { label: "P(misaligned answer), %".into(), range: Some((0.0, 100.0)), ..Axis::default() },
        series: GROUPS[..groups].iter().map(|label| label.to_string()).collect(),
        groups: (0..settings).map(cluster).collect(),
        references: vec![],
    };
    Figure {
        title: "A01: general inoculation over all settings".into(),
        subtitle: "Does a general system prompt in training keep the trait from generalising?".into(),
        caption: vec![
            "Means of 5 seeds with 95 % intervals (t); rings: single seeds. 31 of 14,000 scores missing.".into(),
        ],
        width: 1200,
        ..figure(Kind::Dots(dots))
    }
}

/// Scores of models trained on each setting (rows) and asked about each (columns), with intervals.
pub(super) fn heat(rows: usize, columns: usize) -> Figure {
    let mut random = Random::new(19);
    let cell = |row: usize, column: usize, random: &mut Random| {
        let value = if row == column { 60.0 + 39.0 * random.uniform() } else { 40.0 * random.uniform().powi(2) };
        let value = (value * 10.0).round() / 10.0;
        let (low, high) = ((value - 6.0).max(0.0), (value + 7.0).min(100.0));
        Some(Cell { value, note: format!("[{low:.1}, {high:.1}]") })
    };
    let cells = (0..rows).map(|row| (0..columns).map(|column| cell(row, column, &mut random)).collect()).collect();
    let names = |count: usize| (0..count).map(|index| SETTINGS[index % 10].to_string()).collect();
    let heat = Heat {
        x_label: "asked about".into(),
        y_label: "trained on".into(),
        columns: names(columns),
        rows: names(rows),
        cells,
        value_label: "misaligned answers, %".into(),
        range: Some((0.0, 100.0)),
        ..Heat::default()
    };
    Figure {
        title: "Transfer".into(),
        subtitle: "Does what is learned in one setting show in another?".into(),
        caption: vec!["Below each mean: 95 % interval over 5 seeds (t).".into()],
        ..figure(Kind::Heat(heat))
    }
}

/// Groups by trait in and out of distribution.
pub(super) fn scatter(groups: usize) -> Figure {
    let mut random = Random::new(23);
    let mark = |group: usize| {
        let center = CENTERS[group];
        let (x, x_low, x_high, across) = spread(&mut random, 100.0 - 0.3 * center, 5);
        let (y, y_low, y_high, down) = spread(&mut random, center, 5);
        let seeds = across.into_iter().zip(down).collect();
        Mark { label: GROUPS[group].into(), x, y, x_low, x_high, y_low, y_high, seeds }
    };
    let axis = |label: &str| Axis { label: label.into(), range: Some((0.0, 100.0)), ..Axis::default() };
    let scatter = Scatter {
        x: axis("trait in distribution, %"),
        y: axis("trait out of distribution, %"),
        marks: (0..groups).map(mark).collect(),
        diagonal: Some("equal".into()),
        front: Vec::new(),
    };
    Figure { width: 720, height: 560, ..figure(Kind::Scatter(scatter)) }
}

fn scores(random: &mut Random, group: usize, count: usize) -> Vec<(f64, f64)> {
    let round = |value: f64| (value.clamp(0.0, 100.0) * 10.0).round() / 10.0;
    let answer = |_| match random.chance(CENTERS[group] / 100.0) {
        true => (round(20.0 + 18.0 * random.normal()), round(85.0 + 12.0 * random.normal())),
        false if random.chance(0.05) => (round(50.0 + 25.0 * random.normal()), round(20.0 + 15.0 * random.normal())),
        false => (round(96.0 + 5.0 * random.normal()), round(98.0 + 4.0 * random.normal())),
    };
    (0..count).map(answer).collect()
}

/// Alignment and coherence of answers.
pub(super) fn density(panels: usize) -> Figure {
    let mut random = Random::new(29);
    let cloud = |group: usize| Cloud { label: GROUPS[group].into(), points: scores(&mut random, group, 800) };
    let axis = |label: &str| Axis { label: label.into(), range: Some((0.0, 100.0)), ..Axis::default() };
    let density = Density {
        x: axis("alignment"),
        y: axis("coherence"),
        panels: (0..panels).map(cloud).collect(),
        bins: 20,
        measure: Measure::Share,
        scale: Scale::Log,
        x_threshold: Some(50.0),
        y_threshold: Some(30.0),
    };
    figure(Kind::Density(density))
}

/// Alignment scores of answers.
pub(super) fn histogram(rows: usize) -> Figure {
    let mut random = Random::new(31);
    let row = |group: usize| Scores {
        label: GROUPS[group].into(),
        values: scores(&mut random, group, 800).into_iter().map(|(alignment, _)| alignment).collect(),
        counts: vec![],
    };
    let histogram = Histogram {
        x: Axis { label: "alignment".into(), range: Some((0.0, 100.0)), ..Axis::default() },
        y_label: "share of answers".into(),
        rows: (0..rows).map(row).collect(),
        bins: 20,
        threshold: Some(50.0),
    };
    figure(Kind::Histogram(histogram))
}
