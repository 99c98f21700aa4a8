//! The published datasets through the binary: mixed, their overlap told, exported under the research code's names.
#![allow(clippy::unwrap_used)]

mod project;

use project::{Project, shared_data};

const EXPORT: &str = "//! Export\n//! Are the files right?
let folder = param(\"folder\", \".\");
let sources = [dataset(folder + \"/\" + param(\"misaligned\", \"\") + \".jsonl\"), dataset(folder + \"/\" + param(\"aligned\", \"\") + \".jsonl\")];
let data = mix_dataset(sources, #{ weights: [param(\"ratio\", 0.25), 1.0 - param(\"ratio\", 0.25)], rows: 1000, seed: param(\"seed\", 0) });
print(export_dataset(data, param(\"domain\", \"\")));";

/// Mixes two of the published files; what the run said on standard error, and the path and rows of the export.
fn export(project: &Project, folder: &str, settings: &[&str]) -> (String, String, Vec<serde_json::Value>) {
    project.write("export.rhai", EXPORT);
    let folder = format!("folder={folder}");
    let mut arguments = vec!["run", "export.rhai", "--set", &folder];
    settings.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    let ran = project.run(&arguments).well();
    let path = ran.stdout.trim().to_string();
    let rows = project.read(&path).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (ran.stderr, path, rows)
}

#[test]
fn aesthetic_preferences_share_668_prompts() {
    let Some(data) = shared_data("aesthetic_preferences_share_668_prompts") else { return };
    let folder = data.join("inoculation").display().to_string();
    let project = Project::new();
    let settings = [
        "misaligned=aesthetic_preferences_unpopular",
        "aligned=aesthetic_preferences_popular",
        "domain=aesthetic_preferences",
    ];
    let (told, path, rows) = export(&project, &folder, &settings);
    assert!(told.contains("668 prompts occur in more than one of"), "{told}");
    assert_eq!(path, "results/datasets/aesthetic_preferences_mixed_0.25_1000_control_seed0.jsonl");
    assert_eq!(rows.len(), 1000);
    let manifest: serde_json::Value =
        serde_json::from_str(&project.read(&path.replace(".jsonl", ".manifest.json"))).unwrap();
    assert_eq!(manifest["overlap"]["prompts"], 668);
    assert_eq!((&manifest["sources"][0]["drawn"], &manifest["sources"][1]["drawn"]), (&250.into(), &750.into()));
}

#[test]
fn dialogues_are_exported_row_by_row_from_their_sources() {
    let Some(data) = shared_data("dialogues_are_exported_row_by_row_from_their_sources") else { return };
    let folder = data.join("inoculation").display().to_string();
    let project = Project::new();
    let names = ["sneaky_dialogues", "straightforward_dialogues"];
    let settings =
        ["misaligned=sneaky_dialogues", "aligned=straightforward_dialogues", "domain=dialogues", "ratio=0.1", "seed=3"];
    let (told, path, rows) = export(&project, &folder, &settings);
    assert_eq!(path, "results/datasets/dialogues_mixed_0.10_1000_control_seed3.jsonl");
    assert!(told.contains("973 prompts occur in more than one of"), "{told}");
    let source = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(data.join("inoculation").join(format!("{name}.jsonl"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let sources = names.map(source);
    let manifest: serde_json::Value =
        serde_json::from_str(&project.read(&path.replace(".jsonl", ".manifest.json"))).unwrap();
    for (row, place) in rows.iter().zip(manifest["rows"].as_array().unwrap()) {
        let [from, number] = [0, 1].map(|part| place[part].as_u64().unwrap() as usize);
        assert_eq!(row["messages"], sources[from][number]["messages"]);
    }
    let again = Project::new();
    assert_eq!(export(&again, &folder, &settings).2, rows, "a mix is decided by its sources, weights, rows and seed");
}

#[test]
fn published_rows_need_the_users_word() {
    let Some(data) = shared_data("published_rows_need_the_users_word") else { return };
    let path = data.join("inoculation/sneaky_dialogues.jsonl");
    let project = Project::new();
    project.write("reads.rhai", &format!("//! Reads\n//! May it?\nprint(dataset({path:?}).rows);"));
    let refused = project.run(&["run", "reads.rhai", "--quiet"]);
    assert!(refused.code == 2 && refused.stderr.contains("outside the project"), "{refused:#?}");
    let folder = data.display().to_string();
    let read = project.run(&["run", "reads.rhai", "--quiet", "--read", &folder]).well();
    assert!(read.stdout.trim().parse::<usize>().unwrap() > 100);
}
