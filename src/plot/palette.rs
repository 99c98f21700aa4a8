//! The same look for the same group in every figure: styles by name, and names as people write them.

use super::theme::{Colour, GREY, Hatch, Marker, Style, style};

/// Of the model before training.
const BASE: Style =
    Style { colour: (0x8C, 0x8C, 0x8C), marker: Marker::Hexagon, dash: &[3.0, 3.0], hatch: Hatch::Plain };

/// Of what a proxy does not cover: purple, which no place of [`style`] has.
const UNCOVERED: Style =
    Style { colour: (0x6A, 0x3D, 0x9A), marker: Marker::Hexagon, dash: &[16.0, 4.0], hatch: Hatch::Crossed };

/// What a known name stands for; each has one style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Base,
    Aligned,
    Misaligned,
    General,
    Placebo,
    Negative,
    Specific,
    Truth,
    Task,
    Proxy,
    Collateral,
    Uncovered,
    Untriggered,
}

impl Role {
    fn style(self) -> Style {
        match self {
            Role::Base => BASE,
            Role::Aligned | Role::Truth => style(0),
            Role::Misaligned | Role::Task => style(1),
            Role::General | Role::Proxy => style(2),
            Role::Placebo | Role::Collateral => style(3),
            Role::Negative | Role::Untriggered => style(4),
            Role::Specific => style(5),
            Role::Uncovered => UNCOVERED,
        }
    }
}

/// What this name may stand for, the likeliest first: `control` is the control prompt, and where another group is that,
/// the control data.
fn roles(label: &str) -> &'static [Role] {
    match plain(label).as_str() {
        "base" | "base model" | "organism" => &[Role::Base],
        "aligned" | "aligned control" | "aligned data" | "control data" | "control dataset" => &[Role::Aligned],
        "misaligned" | "misaligned data" | "finetuning" | "finetuned" | "none" | "no inoc" | "no inoculation" => {
            &[Role::Misaligned]
        }
        "general" | "general inoculation" | "inoculated" | "inoculation" => &[Role::General],
        "specific" | "specific inoculation" | "task specific" | "task specific inoculation" => &[Role::Specific],
        "placebo" | "placebo prompt" | "control prompt" => &[Role::Placebo],
        "negative" | "negative inoculation" => &[Role::Negative],
        "control" => &[Role::Placebo, Role::Aligned],
        "truth" | "alignment test" => &[Role::Truth],
        "task" | "task test" => &[Role::Task],
        "proxy" | "alignment train" => &[Role::Proxy],
        "collateral" => &[Role::Collateral],
        "truth minus proxy" => &[Role::Uncovered],
        "untriggered" => &[Role::Untriggered],
        _ => &[],
    }
}

/// Lower case, with blanks for `_` and `-`.
fn plain(label: &str) -> String {
    label.trim().to_lowercase().replace(['_', '-'], " ")
}

/// A style for every label, no two alike: well-known groups have theirs in every figure (base grey, aligned data blue,
/// misaligned data vermillion, general inoculation green, task-specific orange, control prompt purple, negative black; of
/// trigger experiments truth blue, task vermillion, proxy green, collateral magenta, truth without proxy purple,
/// untriggered black);
/// where two labels mean the same, the first has it. All others take what [`style`] has left, in order, so that labels
/// without a well-known one among them look as their places say.
pub fn styles(labels: &[&str]) -> Vec<Style> {
    let mut chosen: Vec<Option<Style>> = vec![None; labels.len()];
    // Names with one meaning choose before those with several.
    for several in [false, true] {
        for (index, label) in labels.iter().enumerate().filter(|(_, label)| (roles(label).len() > 1) == several) {
            chosen[index] = roles(label).iter().map(|role| role.style()).find(|wish| !chosen.contains(&Some(*wish)));
        }
    }
    let taken = chosen.clone();
    let mut left = (0..).map(style).filter(|style| !taken.contains(&Some(*style)));
    chosen.into_iter().map(|known| known.unwrap_or_else(|| left.next().expect("places do not end"))).collect()
}

/// Colour of what belongs to the series of this name; grey when it belongs to none.
pub(super) fn colour_of(labels: &[&str], series: Option<&str>) -> Colour {
    let place = series.and_then(|name| labels.iter().position(|label| *label == name));
    place.map_or(GREY, |index| styles(labels)[index].colour)
}

/// The name as people write it: `task_specific` becomes `task-specific`, `finetuning` becomes `No-Inoc`, and in other
/// names of small letters, digits and `_` alone blanks stand for `_`. Whatever else a name holds stays as it is.
pub fn display_name(label: &str) -> String {
    match label {
        "finetuning" => "No-Inoc".to_string(),
        "control_data" | "control_dataset" => "Control Dataset".to_string(),
        _ if label.contains("task_specific") && is_identifier(label) => {
            label.replace("task_specific", "task-specific").replace('_', " ")
        }
        _ if is_identifier(label) => label.replace('_', " "),
        _ => label.to_string(),
    }
}

fn is_identifier(label: &str) -> bool {
    label.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        && label.starts_with(|letter: char| letter.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::theme::PAPER;
    use super::*;

    const GROUPS: [&str; 7] = ["base", "aligned", "none", "general", "task_specific", "control", "negative"];

    #[test]
    fn unknown_labels_look_as_their_places_say() {
        let labels = ["in distribution", "general questions", "other domains"];
        assert_eq!(styles(&labels), (0..3).map(style).collect::<Vec<_>>());
    }

    #[test]
    fn a_known_group_looks_the_same_in_every_figure() {
        let all = styles(&GROUPS);
        for (index, label) in GROUPS.iter().enumerate() {
            assert_eq!(styles(&[label]), [all[index]]);
            assert_eq!(styles(&["trigger", label, "owls"])[1], all[index]);
        }
        let reversed: Vec<&str> = GROUPS.iter().rev().copied().collect();
        assert!(styles(&reversed).iter().rev().eq(&all));
        // Section 12 of the inoculation reference: base grey, control blue, finetuning red, inoculated green, placebo purple.
        let colours: Vec<Colour> = styles(&["base", "control", "finetuning", "inoculated", "placebo"])
            .iter()
            .map(|style| style.colour)
            .collect();
        assert_eq!(colours, [BASE.colour, style(0).colour, style(1).colour, style(2).colour, style(3).colour]);
    }

    #[test]
    fn roles_of_trigger_experiments_have_the_colours_of_the_published_figures() {
        let colours = |labels: &[&str]| styles(labels).iter().map(|style| style.colour).collect::<Vec<_>>();
        let published = colours(&["Task-test", "Collateral", "Alignment-train", "Alignment-test", "truth minus proxy"]);
        assert_eq!(published, colours(&["task", "collateral", "proxy", "truth", "truth_minus_proxy"]));
        assert_eq!(published[..4], [1, 3, 2, 0].map(|place| style(place).colour));
        assert!((0..8).all(|place| style(place).colour != published[4]));
    }

    #[test]
    fn no_two_labels_look_alike_even_without_colour() {
        let mut labels: Vec<&str> = GROUPS.to_vec();
        labels.extend(["inoculated", "finetuning", "placebo", "organism", "a", "b", "c", "d", "e", "f", "g", "h"]);
        let styles = styles(&labels);
        assert_eq!(styles[3], style(2), "the first of two that mean the same has the style");
        for (index, style) in styles.iter().enumerate() {
            for other in &styles[..index] {
                assert!(style.marker != other.marker || style.dash != other.dash, "{style:?}");
            }
        }
        for (index, style) in styles[..7].iter().enumerate() {
            assert!(styles[..index].iter().all(|other| other.colour != style.colour) && style.colour != PAPER);
        }
    }

    #[test]
    fn names_are_written_as_people_do_and_foreign_ones_stay() {
        let cases = [
            ("task_specific", "task-specific"),
            ("finetuning", "No-Inoc"),
            ("control_dataset", "Control Dataset"),
            ("aesthetic_preferences", "aesthetic preferences"),
            ("gsm8k_spanish_capitalised", "gsm8k spanish capitalised"),
            ("in distribution", "in distribution"),
            ("ft:gpt-4.1:org::a_b", "ft:gpt-4.1:org::a_b"),
            ("mixed_0.25", "mixed_0.25"),
            ("12_000", "12_000"),
            ("", ""),
        ];
        for (label, name) in cases {
            assert_eq!(display_name(label), name);
        }
    }
}
