//! What can be said, in plain sentences, and no more than the intervals allow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Assessment, Axes, Claim, Comparison, Condition, Dose, Summary, label};
use crate::data::statistics::{Direction, Verdict};

/// Sentences for each evaluation and series: a name and what can be said of it.
pub fn statements(summary: &Summary) -> Vec<(String, Vec<String>)> {
    let of = |assessment: &Assessment| {
        let name = match (&summary.axes.series, &assessment.series) {
            (Some(axis), Some(value)) => format!("{}, {axis} {}", assessment.evaluation, label(value)),
            _ => assessment.evaluation.clone(),
        };
        (name, sentences(&summary.axes, assessment))
    };
    summary.assessments.iter().map(of).collect()
}

fn sentences(axes: &Axes, assessment: &Assessment) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(dose) = &assessment.dose {
        all.push(direction(axes, dose, &assessment.neighbours));
    }
    if let Some(ends) = &assessment.highest_against_lowest {
        let d = &ends.difference;
        let verdict = match (d.low > 0.0, d.high < 0.0) {
            (true, _) => "the interval lies above 0",
            (_, true) => "the interval lies below 0",
            _ => "the interval contains 0, so no difference can be claimed",
        };
        all.push(format!(
            "From {} to {} it changes by {}, {}: {verdict}.",
            label(&ends.against),
            label(&ends.of),
            interval(ends),
            method(ends)
        ));
    }
    // Two conditions are neighbours and ends at once.
    if assessment.neighbours.len() > 1 {
        all.extend(neighbours(&assessment.neighbours));
    }
    all.extend(against_one(axes, &assessment.against_first, |first| format!("`{first}`")));
    all.extend(against_one(axes, &assessment.against_baseline, str::to_string));
    all.extend(assessment.planned.iter().map(planned));
    let compared = assessment.against_first.iter().chain(&assessment.against_baseline).chain(&assessment.planned);
    all.extend(equal(compared));
    all
}

/// Which comparisons showed equality up to the margin, and which did not; nothing where none was asked for.
fn equal<'a>(comparisons: impl Iterator<Item = &'a Comparison>) -> Option<String> {
    let (mut shown, mut open, mut margin) = (Vec::new(), Vec::new(), None);
    for one in comparisons {
        let Some(found) = &one.equality else { continue };
        margin = Some(found.margin);
        let text = format!(
            "{} and {} ({:.0} % interval [{:.1}, {:.1}])",
            label(&one.of),
            label(&one.against),
            100.0 * found.confidence,
            found.low,
            found.high
        );
        if found.verdict == Verdict::Equivalent { shown.push(text) } else { open.push(text) }
    }
    let told = |list: Vec<String>| if list.is_empty() { "none".to_string() } else { list.join(", ") };
    let margin = margin?;
    Some(format!("Equal up to {margin} points by two one-sided tests: {}; not shown for {}.", told(shown), told(open)))
}

/// `general` against `control`: -40.7 [-46.1, -35.3] (paired by 5 seeds, p < 0.0001): lower.
fn planned(one: &Comparison) -> String {
    let verdict = match one.claim {
        Claim::Higher => "higher",
        Claim::Lower => "lower",
        Claim::Nothing => "no difference can be claimed",
    };
    let corrected = match one.comparisons {
        0 | 1 => String::new(),
        several => format!(", after Holm over {several} comparisons"),
    };
    let (of, against) = (label(&one.of), label(&one.against));
    format!(
        "`{of}` against `{against}`: {} ({}, {}{corrected}): {verdict}.",
        interval(one),
        method(one),
        p_of(one.adjusted_p)
    )
}

/// How far comparisons agree over the series of the grid, a sentence for each: in how many of them the interval lies
/// below or above 0, and which ones do not follow. Nothing without several series.
pub fn replications(summary: &Summary) -> Vec<String> {
    // Evaluation, first x, second x; and for every series its name and the comparison.
    type Row<'a> = ((&'a str, String, String), Vec<(String, &'a Comparison)>);
    let mut rows: Vec<Row> = Vec::new();
    for assessment in &summary.assessments {
        let Some(series) = assessment.series.as_ref().map(label) else { continue };
        for one in assessment.against_first.iter().chain(&assessment.planned) {
            let named = (assessment.evaluation.as_str(), label(&one.of), label(&one.against));
            match rows.iter_mut().find(|(known, _)| *known == named) {
                Some((_, known)) if known.iter().any(|(name, _)| *name == series) => {}
                Some((_, known)) => known.push((series.clone(), one)),
                None => rows.push((named, vec![(series.clone(), one)])),
            }
        }
    }
    let sentence = |((evaluation, of, against), found): &Row| {
        let below: Vec<_> = found.iter().filter(|(_, one)| one.difference.high < 0.0).collect();
        let above: Vec<_> = found.iter().filter(|(_, one)| one.difference.low > 0.0).collect();
        let (most, word) = if above.len() > below.len() { (above, "above") } else { (below, "below") };
        let rest = found.iter().filter(|one| !most.iter().any(|(name, _)| *name == one.0));
        let rest: Vec<String> = rest.map(|(name, one)| format!("{name} {}", interval(one))).collect();
        let rest = if rest.is_empty() { String::new() } else { format!("; not in {}", rest.join(", ")) };
        let (count, all) = (most.len(), found.len());
        format!("{evaluation}: `{of}` against `{against}`: the interval lies {word} 0 in {count} of {all}{rest}.")
    };
    rows.iter().filter(|(_, found)| found.len() > 1).map(sentence).collect()
}

fn direction(axes: &Axes, dose: &Dose, neighbours: &[Comparison]) -> String {
    let x = &axes.x;
    let equal = dose.means.windows(2).any(|pair| pair[0].1 == pair[1].1);
    let rises = dose.rank_correlation_over_conditions.is_none_or(|correlation| correlation.rho >= 0.0);
    let what = match (dose.direction, equal) {
        (Direction::Increasing, false) => format!("The score rises with {x} in every step"),
        (Direction::Increasing, true) => format!("The score never falls as {x} grows"),
        (Direction::Decreasing, false) => format!("The score falls with {x} in every step"),
        (Direction::Decreasing, true) => format!("The score never rises as {x} grows"),
        (Direction::Constant, _) => format!("The score is the same at every {x}"),
        (Direction::Mixed, _) => {
            let against = |pair: &&[(f64, f64)]| if rises { pair[1].1 < pair[0].1 } else { pair[1].1 > pair[0].1 };
            let steps = dose.means.windows(2).filter(against);
            let steps: Vec<String> = steps
                .map(|pair| format!("from {} to {} ({:+.1})", pair[0].0, pair[1].0, pair[1].1 - pair[0].1))
                .collect();
            let (word, claim) = if rises { ("falls", Claim::Lower) } else { ("rises", Claim::Higher) };
            let open = if neighbours.iter().any(|one| one.claim == claim) { "" } else { ", which cannot be claimed," };
            format!("The score is not monotone in {x}: it {word} {}{open}", steps.join(", "))
        }
    };
    match &dose.rank_correlation_over_runs {
        Some(found) => format!("{what} (rank correlation {:.2} over {} runs, {}).", found.rho, found.n, p_of(found.p)),
        None => format!("{what}."),
    }
}

fn neighbours(comparisons: &[Comparison]) -> Vec<String> {
    let step = |one: &Comparison| format!("{} to {}", label(&one.against), label(&one.of));
    let (claimed, open): (Vec<_>, Vec<_>) = comparisons.iter().partition(|one| one.claim != Claim::Nothing);
    let corrected = format!("after Holm over {} comparisons", comparisons[0].comparisons);
    let mut said = Vec::new();
    if !claimed.is_empty() {
        let list = claimed.iter().map(|one| format!("{} ({}, {})", step(one), interval(one), p_of(one.adjusted_p)));
        said.push(format!("Neighbours that differ {corrected}: {}.", joined(list)));
    }
    if claimed.is_empty() {
        let least = comparisons.iter().map(|one| one.adjusted_p).fold(1.0, f64::min);
        said.push(format!("No two neighbours can be told apart {corrected} (smallest {}).", p_of(least)));
    } else if !open.is_empty() {
        said.push(format!("No difference can be claimed for {}.", joined(open.into_iter().map(step))));
    }
    said
}

fn against_one(axes: &Axes, comparisons: &[Comparison], name: impl Fn(&str) -> String) -> Option<String> {
    let first = comparisons.first()?;
    let methods: BTreeSet<&str> = comparisons.iter().map(method).collect();
    let mut how = methods.into_iter().collect::<Vec<_>>().join(" / ");
    if first.comparisons > 1 {
        let _ = write!(how, ", after Holm over {} comparisons", first.comparisons);
    }
    let mut parts = Vec::new();
    for (claim, word) in [(Claim::Higher, "higher"), (Claim::Lower, "lower"), (Claim::Nothing, "")] {
        let list = comparisons.iter().filter(|one| one.claim == claim);
        let list: Vec<String> =
            list.map(|one| format!("{} ({}, {})", label(&one.of), interval(one), p_of(one.adjusted_p))).collect();
        match (list.is_empty(), claim) {
            (true, _) => {}
            (false, Claim::Nothing) => parts.push(format!("no difference can be claimed at {}", joined(list))),
            (false, _) => parts.push(format!("{word} at {}", joined(list))),
        }
    }
    let axis = if axes.x.is_empty() { String::new() } else { format!(" by {}", axes.x) };
    Some(format!("Against {}{axis} ({how}): {}.", name(&label(&first.against)), parts.join("; ")))
}

/// `+30.1 [20.0, 40.2]`.
fn interval(one: &Comparison) -> String {
    format!("{:+.1} [{:.1}, {:.1}]", one.difference.mean, one.difference.low, one.difference.high)
}

fn method(one: &Comparison) -> &str {
    &one.difference.method
}

/// `p = 0.012`, two significant digits.
fn p_of(p: f64) -> String {
    if p < 1e-4 {
        return "p < 0.0001".to_string();
    }
    let digits = (1.0 - p.log10().floor()).max(0.0) as usize;
    format!("p = {p:.digits$}")
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(", ")
}

/// `3 seeds, 24 + 16 + 36 questions, 13,680 answers; 1.0 % without a score (137 unparsable); judge: grammar`.
pub fn counts(conditions: &[&Condition], evaluations: &[String]) -> String {
    let questions: Vec<String> = evaluations
        .iter()
        .filter_map(|id| conditions.iter().find(|condition| &condition.evaluation == id))
        .map(|condition| condition.questions().to_string())
        .collect();
    let answers: usize = conditions.iter().map(|condition| condition.answers).sum();
    let seeds: BTreeSet<u64> = conditions.iter().flat_map(|condition| &condition.runs).map(|run| run.seed).collect();
    let judges: BTreeSet<&str> = conditions.iter().map(|condition| condition.judge.as_str()).collect();
    format!(
        "{} {}, {} questions, {} answers; {}; judge: {}",
        seeds.len(),
        if seeds.len() == 1 { "seed" } else { "seeds" },
        questions.join(" + "),
        grouped(answers),
        unscored(conditions, answers),
        judges.into_iter().collect::<Vec<_>>().join(", "),
    )
}

/// `1.0 % without a score (137 unparsable)`.
fn unscored(conditions: &[&Condition], answers: usize) -> String {
    let mut reasons = BTreeMap::<&str, usize>::new();
    for (reason, count) in conditions.iter().flat_map(|condition| &condition.missing) {
        *reasons.entry(reason).or_default() += count;
    }
    let missing: usize = reasons.values().sum();
    if missing == 0 {
        return "all with a score".to_string();
    }
    let list = reasons.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count)));
    format!("{:.1} % without a score ({})", 100.0 * missing as f64 / answers as f64, joined(list))
}

/// The different ways in which intervals were made, without the numbers of questions.
pub fn methods(conditions: &[&Condition]) -> String {
    let general = |method: &str| {
        let words: Vec<&str> = method.split(' ').collect();
        let counts_questions = |index: usize| {
            words.get(index + 1) == Some(&"questions") && words[index].chars().all(|letter| letter.is_ascii_digit())
        };
        let kept = (0..words.len()).filter(|index| !counts_questions(*index)).map(|index| words[index]);
        kept.collect::<Vec<_>>().join(" ")
    };
    let found = conditions.iter().filter_map(|condition| Some(general(&condition.estimate.as_ref()?.method)));
    found.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" / ")
}

/// `14,400`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
