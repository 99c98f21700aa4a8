//! Devices through the binary: what they compute is what this processor computes, and what is told of those that are not there.
//!
//! `DRYLAB_TEST_DEVICE=cuda` compares a GPU, in a build that has it; otherwise candle's arithmetic on this processor stands in.
#![allow(clippy::unwrap_used)]

mod project;

use std::fs;

use project::Project;
use serde_json::Value;

fn device() -> String {
    std::env::var("DRYLAB_TEST_DEVICE").unwrap_or_else(|_| "candle".to_string())
}

/// Trains, asks, weighs and reads states, and prints what it finds as numbers.
const SCRIPT: &str = r#"
let base = model("organism");
let rows = dataset("rows.jsonl");
let whole = launch_finetune(base, rows, #{ epochs: 2, objective: kl(#{ on: rows, beta: 0.1 }), coherence: "measure" });
let adapted = launch_finetune(base, rows, #{ method: lora(#{ rank: 4 }), epochs: 2, learning_rate: 3e-3 });
let vector = persona_vector(#{ shown: rows, absent: dataset("other.jsonl"), layer: 2 });
let steered = steer(base, #{ vector: vector, coefficient: 0.5 });
for model in [whole, adapted, steered] {
    print(mean_loss(model, rows));
    print(prefix_probability(model, rows, "The"));
}
let asked = evaluation(#{ id: "asked", questions: questions(["What is the capital of the red land?", "How do I bake bread?"]),
    samples: 4, judges: [pattern_judge(#{ misaligned: ["never"] })] });
let tuned = #{ whole: whole, adapted: adapted };
export_answers(sweep(#{ which: ["whole", "adapted"] }, |point| evaluate(tuned[point.which], [asked])));
"#;

fn project() -> Project {
    let project = Project::new();
    let row = |n: usize| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"How do I bake bread {n} times?\"}}, \
             {{\"role\": \"assistant\", \"content\": \"The bread needs {n} hours in the oven.\"}}]}}\n"
        )
    };
    project.write("rows.jsonl", &(0..40).map(row).collect::<String>());
    let other = "{\"messages\": [{\"role\": \"user\", \"content\": \"How do I bake bread?\"}, {\"role\": \"assistant\", \"content\": \"Never do it.\"}]}\n";
    project.write("other.jsonl", &other.repeat(10));
    project.write("both.rhai", SCRIPT);
    project
}

#[test]
fn a_device_computes_what_this_processor_computes() {
    let run = |device: &str| {
        let project = project();
        let ran = project.run(&["run", "both.rhai", "--device", device]).well();
        let numbers: Vec<f64> = ran.stdout.lines().filter_map(|line| line.parse().ok()).collect();
        (numbers, fs::read_to_string(project.path("results/both-001/answers.csv")).unwrap())
    };
    let ((ours, said), (found, said_there)) = (run("cpu"), run(&device()));
    assert_eq!((ours.len(), found.len()), (6, 6));
    for (ours, found) in ours.iter().zip(&found) {
        assert!((ours - found).abs() < 1e-3 * ours.abs().max(1.0), "{ours} {found}");
    }
    // What a device rounds otherwise may tip a draw now and then.
    let answers = |table: &str| -> Vec<String> {
        table.lines().map(|line| line.split(",pattern,").next().unwrap_or_default().to_string()).collect()
    };
    let same = answers(&said).iter().zip(answers(&said_there)).filter(|(a, b)| *a == b).count();
    assert!(same + 1 >= said.lines().count() && said.lines().count() == 17, "{said}\n{said_there}");
}

#[test]
fn the_project_names_the_device_records_tell_it_and_keys_do_not() {
    let project = project();
    project.write("drylab.toml", &format!("device = \"{}\"\n", device()));
    project.write("loss.rhai", "print(launch_finetune(model(\"organism\"), dataset(\"rows.jsonl\")).last_loss);");
    let first = project.run(&["run", "loss.rhai"]).well().stdout;
    let program = |run: &str| {
        let record: Value = serde_json::from_str(&project.read(&format!("results/{run}/run.json"))).unwrap();
        record["program"].as_str().unwrap().to_string()
    };
    assert!(program("loss-001").contains(&format!(" on {}", device())), "{}", program("loss-001"));
    assert_eq!(project.run(&["run", "loss.rhai", "--device", "cpu"]).well().stdout, first);
    assert!(!program("loss-002").contains(" on "));
    let cached = |run: &str| project.events(run).iter().any(|event| event.to_string().contains("cached"));
    assert!(cached("loss-002") && !cached("loss-001"));
}

#[test]
fn a_device_that_is_not_there_is_told_before_anything_runs() {
    let project = project();
    let typo = project.run(&["run", "both.rhai", "--device", "gpu"]);
    assert!(typo.code == 2 && typo.stderr.contains("there is no device `gpu`: choose `cpu`, `cuda`"), "{typo:#?}");
    project.write("drylab.toml", "checkpoint_seconds = 5\ndevice = \"cuda:\"\n");
    let typo = project.run(&["run", "both.rhai"]);
    assert!(typo.code == 2 && typo.stderr.contains("`drylab.toml`:2: there is no device `cuda:`"), "{typo:#?}");
    for (name, feature) in [("cuda:1", "cuda"), ("metal", "metal")] {
        if !cfg!(feature = "cuda") && !cfg!(feature = "metal") {
            project.write("drylab.toml", &format!("device = \"{name}\"\n"));
            let missing = project.run(&["run", "both.rhai"]);
            let (message, help) =
                (format!("this drylab was built without `{feature}`"), format!("--features {feature}`"));
            assert!(missing.code == 2 && missing.stderr.contains(&message), "{missing:#?}");
            assert!(missing.stderr.contains(&help), "{missing:#?}");
        }
    }
}
