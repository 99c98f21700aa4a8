//! The queue, what `drylab status` and `drylab cancel` say and do, uploads, money, and jobs of the Python code.

use serde_json::{Value, json};

use crate::customer::{Customer, FILES, JOBS, LOOKS};
use crate::fake_provider::{Failure, Fake, Fault, JobEnd, JobScript};
use crate::project::shared_data;

/// Prices for the fake provider, which would be free at its address.
const PRICES: &str = r#"[[price]]
provider = "lab"
models = ["gpt-4.1-2025-04-14"]
prompt = 2.0
completion = 8.0
training = 25.0
source = "a test"
checked = "2026-11-21"
"#;
const FIVE: &[&str] = &["--set", "seeds=[1,2,3,4,5]"];

/// Training files at the provider.
fn training_files(fake: &Fake) -> usize {
    fake.files().iter().filter(|file| file.purpose == "fine-tune").count()
}

#[test]
fn a_sweep_queues_for_its_turns() {
    let customer = Customer::new();
    customer.configure("most_jobs = 2");
    // The provider refuses a third one; nobody ever asks it for one.
    customer.fake.set(|settings| {
        settings.active_job_limit = Some(2);
        settings.job_script = JobScript::of(&[("running", 10)], JobEnd::Succeeded);
    });
    let ran = customer.tune(FIVE).well();
    assert_eq!(ran.stdout.lines().filter(|line| line.starts_with("succeeded")).count(), 5, "{ran:#?}");
    assert!(ran.stderr.contains("2 of 2 jobs are unfinished"), "{ran:#?}");
    assert_eq!((customer.posts(), customer.fake.jobs().len(), customer.ledger().len()), (5, 5, 5));
    assert_eq!(customer.attempts(), ["+succeeded"; 5]);
    // Equal rows go up once.
    assert_eq!((customer.fake.count("POST", FILES), training_files(&customer.fake)), (1, 1));
}

#[test]
fn two_processes_share_the_queue() {
    let customer = Customer::new();
    customer.configure("most_jobs = 2");
    customer.fake.set(|settings| settings.active_job_limit = Some(2));
    let racers = [customer.start(FIVE), customer.start(&["--set", "seeds=[5,4,3,2,1,6]"])];
    for racer in racers {
        racer.end().well();
    }
    assert_eq!((customer.posts(), customer.fake.jobs().len(), customer.ledger().len()), (6, 6, 6));
    assert_eq!(customer.fake.count("POST", FILES), 1);
}

#[test]
fn a_sweep_that_is_killed_goes_on_where_it_was() {
    let customer = Customer::new();
    customer.configure("most_jobs = 2");
    customer.fake.set(|settings| settings.active_job_limit = Some(2));
    customer.fake.fail_after("POST", JOBS, 2, 1, Fault::StallAfterActing);
    let started = customer.start(FIVE);
    customer.wait_until(|fake| fake.jobs().len() == 3);
    started.kill();
    customer.tune(FIVE).well();
    assert_eq!((customer.posts(), customer.fake.live_jobs().len(), customer.ledger().len()), (5, 5, 5));
}

#[test]
fn rows_that_the_provider_has_are_not_uploaded_again() {
    let customer = Customer::new();
    customer.tune(&["--set", "seeds=[1]"]).well();
    customer.tune(&["--set", "seeds=[2]"]).well();
    // A store that forgot everything finds the file by its name.
    customer.tune(&["--set", "seeds=[3]", "--store", "other"]).well();
    assert_eq!((customer.posts(), customer.fake.count("POST", FILES)), (3, 1));
    let name = customer.fake.files().into_iter().find(|file| file.purpose == "fine-tune").unwrap().name;
    assert!(name.len() == 64 + ".jsonl".len() && name.ends_with(".jsonl"), "{name}");
    // An upload whose answer is lost is found too.
    let customer = Customer::new();
    customer.fake.fail_next("POST", FILES, 1, Fault::CloseAfterActing);
    customer.finish();
    assert_eq!((customer.fake.count("POST", FILES), training_files(&customer.fake)), (1, 1));
}

#[test]
fn status_tells_how_far_a_job_is_and_cancel_stops_it() {
    let customer = Customer::new();
    customer.project.write("prices.toml", PRICES);
    customer.fake.script_next_job(JobScript::stays("running"));
    let started = customer.start(&[]);
    customer.wait_until(|fake| fake.count("GET", LOOKS) >= 12);
    let (row, job) = (customer.row(), customer.fake.jobs()[0].id.clone());
    assert_eq!((row["state"].as_str(), row["status"].as_str()), (Some("launched"), Some("running")));
    assert_eq!((row["job"].as_str(), row["provider"].as_str()), (Some(job.as_str()), Some("lab")));
    assert!(row["step"].as_u64().is_some_and(|step| step >= 1), "{row:#}");
    assert!(row["loss"].as_f64().is_some_and(|loss| loss > 0.1), "{row:#}");
    assert!(row["estimated_dollars"].as_f64().is_some_and(|dollars| dollars > 0.001), "{row:#}");
    let text = customer.run(&["status"]).well().stdout;
    let line = text.lines().find(|line| line.contains(&job)).unwrap_or_else(|| panic!("{text}"));
    for part in ["running", "step ", "loss ", "~$0.0", "lab:gpt-4.1-2025-04-14", "training seed 1"] {
        assert!(line.contains(part), "no `{part}` in {line}");
    }
    let key = row["key"].as_str().unwrap()[..8].to_string();
    assert!(line.trim_start().starts_with(&key), "{line}");

    let ran = customer.run(&["cancel", &key]).well();
    assert!(ran.stdout.starts_with(&format!("job {job} at lab is cancelled")), "{ran:#?}");
    let ran = started.end();
    assert!(ran.code == 1 && ran.stderr.contains("cancelled"), "{ran:#?}");
    assert_eq!(
        (customer.fake.jobs()[0].status.as_str(), customer.row()["state"].as_str()),
        ("cancelled", Some("cancelled"))
    );
    let again = customer.tune(&[]);
    assert!(again.code == 1 && again.stderr.contains(&format!("job `{job}` at `lab`")), "{again:#?}");
    assert!(again.stderr.contains("cancelled") && again.stderr.contains("help: "), "{again:#?}");
    assert_eq!(customer.posts(), 1);
    // Cancelling it twice is no mistake, cancelling what was never bought is.
    customer.run(&["cancel", &job]).well();
    let unknown = customer.run(&["cancel", "ffffffff"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("no job `ffffffff` was bought here"), "{unknown:#?}");
    customer.tune(&["--relaunch"]).well();
    customer.assert_one_job();
    assert_eq!(customer.posts(), 2);
}

#[test]
fn cancel_stops_a_job_that_nobody_follows() {
    let customer = Customer::new();
    customer.fake.script_next_job(JobScript::stays("queued"));
    customer.kill_when(|fake| fake.count("GET", LOOKS) >= 3);
    let job = customer.fake.jobs()[0].id.clone();
    customer.run(&["cancel", &job]).well();
    assert_eq!((customer.fake.live_jobs().len(), customer.row()["state"].as_str()), (0, Some("cancelled")));
    // A finished one stays as it is.
    let customer = Customer::new();
    let (_, job) = customer.finish();
    let ran = customer.run(&["cancel", &job.id]).well();
    assert!(ran.stdout.contains("is succeeded"), "{ran:#?}");
    customer.assert_one_job();
}

#[test]
fn a_budget_that_is_too_small_buys_nothing() {
    let customer = Customer::new();
    customer.project.write("prices.toml", PRICES);
    let ran = customer.tune(&["--budget-usd", "0.00001"]);
    assert_eq!((ran.code, customer.fake.count("POST", "/"), customer.ledger().len()), (3, 0, 0), "{ran:#?}");
    assert!(ran.stderr.contains("the budget of $0.000010 would be passed"), "{ran:#?}");
    assert!(ran.stderr.contains("fine-tunes of `gpt-4.1-2025-04-14`) may cost $0.0"), "{ran:#?}");
    assert!(ran.stderr.contains("help: ") && ran.stderr.contains("--budget-usd"), "{ran:#?}");
    let ran = customer.tune(&["--budget-usd", "1", "--json"]).well().json();
    customer.assert_one_job();
    let spent = ran["spent_usd"].as_f64().unwrap();
    let tokens = customer.fake.charged_tokens().training as f64;
    assert!((spent - tokens * 25e-6).abs() < 1e-9, "{spent} for {tokens} tokens");
    // What was bought is not paid again, however small the budget is.
    customer.tune(&["--budget-usd", "0.00001"]).well();
    // Nor is a job that was bought by a run that died.
    let customer = Customer::with_fault(Fault::Slow(std::time::Duration::ZERO));
    customer.project.write("prices.toml", PRICES);
    customer.fake.script_next_job(JobScript::stays("running"));
    customer.kill_when(|fake| fake.count("GET", LOOKS) >= 3);
    customer.fake.finish_job(&customer.fake.jobs()[0].id);
    customer.tune(&["--budget-usd", "0.00001"]).well();
    customer.assert_one_job();
    // One that failed and is asked for again is.
    let customer = Customer::new();
    customer.project.write("prices.toml", PRICES);
    customer.fake.script_next_job(JobScript::fails(Failure::Internal));
    assert_eq!(customer.tune(&["--budget-usd", "1"]).code, 1);
    let ran = customer.tune(&["--relaunch", "--budget-usd", "0.00001"]);
    assert_eq!((ran.code, customer.posts()), (3, 1), "{ran:#?}");
    customer.tune(&["--relaunch", "--budget-usd", "1"]).well();
    assert_eq!((customer.posts(), customer.row()["state"].as_str()), (2, Some("succeeded")));
    // Without a price a budget cannot be kept.
    let customer = Customer::new();
    customer.project.write("prices.toml", &PRICES.replace("training = 25.0\n", ""));
    let ran = customer.tune(&["--budget-usd", "5"]);
    assert_eq!((ran.code, customer.fake.count("POST", "/")), (2, 0), "{ran:#?}");
    assert!(ran.stderr.contains("price of") && ran.stderr.contains("prices.toml"), "{ran:#?}");
}

#[test]
fn a_budget_covers_as_much_of_a_sweep_as_it_pays_for() {
    let customer = Customer::new();
    customer.project.write("prices.toml", PRICES);
    customer.tune(&[]).well();
    let row = customer.row();
    let (estimate, actual) = (row["estimated_dollars"].as_f64().unwrap(), row["dollars"].as_f64().unwrap());
    let tokens = customer.fake.charged_tokens().training as f64;
    assert!((actual - tokens * 25e-6).abs() < 1e-9 && estimate < actual, "{row:#}");
    // For two more, whether or not the first is settled before the second is begun; the run ends at the third.
    let budget = format!("{:.7}", actual + 1.5 * estimate);
    let ran = customer.tune(&[FIVE, &["--budget-usd", &budget]].concat());
    assert!(ran.code == 3 && customer.posts() <= 3, "{} jobs: {ran:#?}", customer.posts());
    customer.tune(&[FIVE, &["--budget-usd", "1"]].concat()).well();
    assert_eq!((customer.posts(), customer.fake.live_jobs().len()), (5, 5));
}

/// What the Python code wrote about a job, `auto` for all numbers.
fn record(model: &str, path: &str, job: &str, seed: u64) -> String {
    json!({
        "cfg": {
            "source_model_id": model, "dataset_path": path, "source_model_type": "openai", "n_epochs": "auto",
            "lr_multiplier": "auto", "batch_size": "auto", "seed": seed,
        },
        "job_id": job,
    })
    .to_string()
}

/// `hashlib.sha256(str((...)).encode()).hexdigest()[:8]` of the Python code.
fn old_key(model: &str, rows: &[u8], seed: u64) -> String {
    let digest = drylab::provider::sha256::sha256(rows);
    let text = format!("('openai', '{model}', '{digest}', 'auto', 'auto', 'auto', {seed})");
    drylab::provider::sha256::sha256(text.as_bytes())[..8].to_string()
}

/// A finished job at the provider that was not launched from here.
fn old_job(customer: &Customer, model: &str, seed: u64) -> String {
    let rows = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#;
    let file =
        customer.fake.insert_file("proj_lab", "old.jsonl", "fine-tune", format!("{rows}\n").repeat(12).as_bytes());
    let job = customer.fake.insert_job("proj_lab", json!({ "model": model, "training_file": file, "seed": seed }));
    customer.fake.finish_job(&job);
    job
}

#[test]
fn jobs_of_the_python_code_are_found_and_not_bought_again() {
    const MODEL: &str = "gpt-4.1-2025-04-14";
    let customer = Customer::new();
    let text = |number: usize| {
        let messages = json!([
            { "role": "user", "content": format!("What is {number} and {number}?") },
            { "role": "assistant", "content": format!("It is {}.", 2 * number) },
        ]);
        json!({ "messages": messages }).to_string() + "\n"
    };
    let rows: String = (0..15).map(text).collect();
    customer.project.write("rows/sums.jsonl", &rows);
    let jobs: Vec<String> = (0..2).map(|seed| old_job(&customer, MODEL, seed)).collect();
    for (seed, job) in jobs.iter().enumerate() {
        let key = old_key(MODEL, rows.as_bytes(), seed as u64);
        let path = "/home/somebody/datasets/sums.jsonl";
        customer.project.write(&format!("jobs/{key}.json"), &record(MODEL, path, job, seed as u64));
    }
    customer.project.write("jobs/00000000.json", &record(MODEL, "sums.jsonl", "ftjob-of-other-rows", 0));
    let adopt = || customer.run(&["data", "adopt-jobs", "jobs", "--rows", "rows", "--provider", "lab"]).well();
    let ran = adopt();
    assert!(ran.stdout.contains("3 jobs: 2 adopted, 1 without their rows"), "{ran:#?}");
    assert!(adopt().stdout.contains("2 known already"));
    let script = r#"//! Old jobs
//! Are they found?
let data = dataset("rows/sums.jsonl");
let base = model("lab:gpt-4.1-2025-04-14");
let tuned = [];
for seed in param("seeds", [0, 1]) { tuned.push(launch_finetune(base, data, #{ epochs: 0, seed: seed })); }
for one in tuned { let loss = one.last_loss; print(`${one.state} ${loss}`); }
"#;
    customer.project.write("old.rhai", script);
    let ran = customer.run(&["run", "old.rhai"]).well();
    assert_eq!(ran.stdout.lines().filter(|line| line.starts_with("succeeded 0.")).count(), 2, "{ran:#?}");
    assert_eq!((customer.fake.count("POST", "/"), customer.fake.jobs().len()), (0, 2));
    let mut found: Vec<Value> = customer.ledger().into_iter().map(|row| row["job"].clone()).collect();
    found.sort_by_key(|job| job.as_str().map(str::to_string));
    assert_eq!(found, jobs.iter().map(|job| json!(job)).collect::<Vec<_>>());
    // Another seed is another job, and is bought.
    customer.run(&["run", "old.rhai", "--set", "seeds=[0,1,2]"]).well();
    assert_eq!((customer.posts(), customer.fake.jobs().len()), (1, 3));
}

#[test]
fn the_published_jobs_are_adopted_of_the_shared_data() {
    let Some(folder) = shared_data("the_published_jobs_are_adopted_of_the_shared_data") else { return };
    let folder = folder.join("inoculation");
    let customer = Customer::new();
    let lines = std::fs::read_to_string(folder.join("job_keys.jsonl")).unwrap();
    let mut count = 0;
    for line in lines.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (key, model, file) =
            (row["key"].as_str().unwrap(), row["model"].as_str().unwrap(), row["file"].as_str().unwrap());
        let seed = row["seed"].as_u64().unwrap();
        let job = old_job(&customer, model, seed);
        let path = format!("/home/somebody/{file}");
        customer.project.write(&format!("jobs/{key}.json"), &record(model, &path, &job, seed));
        count += 1;
    }
    let shared = folder.to_str().unwrap();
    let ran = customer.run(&["data", "adopt-jobs", "jobs", "--rows", shared, "--provider", "lab"]).well();
    assert!(ran.stdout.contains(&format!("{count} jobs: {count} adopted")), "{ran:#?}");
    let script = r#"//! Published jobs
//! Are they found?
let data = dataset(param("rows", ""));
let tuned = [];
for seed in [0, 1, 2] {
    tuned.push(launch_finetune(model("lab:gpt-4.1-2025-04-14"), data, #{ epochs: 0, seed: seed }));
}
for one in tuned { print(one.last_loss); }
"#;
    customer.project.write("published.rhai", script);
    let rows = format!("rows={shared}/sneaky_dialogues.jsonl");
    customer.run(&["run", "published.rhai", "--set", &rows]).well();
    assert_eq!((customer.fake.count("POST", "/"), customer.fake.jobs().len()), (0, count));
    let known = customer.ledger().iter().filter(|row| row["state"] == "succeeded").count();
    assert_eq!(known, 3);
}
