//! Questions to models behind an API, through the binary: every answer once, judged, paid within the budget, and told well
//! when it cannot be had.
#![allow(clippy::unwrap_used)]

mod fake_provider;
mod project;

use fake_provider::{Answer, BatchScript, Fake, Fault};
use project::{Project, Ran};

/// Questions x samples answers of a model, scored by a rule.
const ASK: &str = "//! Ask\n//! Is every answer there once?
let texts = [];
for number in 0..param(\"questions\", 20) { texts.push(`question ${number}`); }
let test = evaluation(#{ id: \"echo\", questions: questions(texts), samples: param(\"samples\", 5), max_tokens: 8,
                         judges: [pattern_judge(#{ misaligned: [\"1\"] })] });
print(evaluate(model(param(\"model\", \"lab:gpt-4o-mini\")), [test]).score);";

/// A project whose provider `lab` is the fake.
fn project(fake: &Fake, more: &str) -> Project {
    let project = Project::new();
    project.write("ask.rhai", ASK);
    project.write("drylab.toml", &format!("[providers.lab]\nbase_url = \"{}\"\n{more}", fake.url()));
    project
}

/// Numbers of one row of the store.
fn query(project: &Project, sql: &str) -> Vec<i64> {
    let index = rusqlite::Connection::open(project.path("results/store/index.sqlite")).unwrap();
    let mut statement = index.prepare(sql).unwrap();
    let columns = statement.column_count();
    statement.query_row([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap()
}

fn asked(ran: &Ran) -> u64 {
    ran.json()["worked"]["evaluate"].as_u64().unwrap_or(0)
}

#[test]
fn every_answer_is_there_once_whatever_happens_on_the_way() {
    chaos(1_000);
}

#[test]
#[ignore = "takes a minute; run it by hand"]
fn ten_thousand_answers_are_there_once_whatever_happens_on_the_way() {
    chaos(10_000);
}

fn chaos(answers: u64) {
    let fake = Fake::start();
    fake.fail_randomly(
        "POST",
        "/chat/completions",
        7,
        &[
            (0.02, Fault::RequestLimit { retry_after: None }),
            (0.02, Fault::Status(500)),
            (0.02, Fault::ResetBeforeActing),
            (0.01, Fault::CloseAfterActing),
            (0.02, Fault::MalformedJson),
            (0.01, Fault::Stall),
        ],
    );
    let project = project(&fake, "most_in_flight = 200\ntimeout_seconds = 0.5\n");
    let questions = format!("questions={}", answers / 10);
    let arguments = ["run", "ask.rhai", "--json", "--set", &questions, "--set", "samples=10"];
    let ran = project.run(&arguments).well();
    assert_eq!(asked(&ran), answers);
    let rows = query(&project, "select count(*), count(distinct key), sum(answer = '') from samples");
    assert_eq!(rows, [answers as i64, answers as i64, 0]);
    assert!(fake.faults_played("*") > answers / 20, "the faults were played");
    // The bodies of what was paid for are kept, one per answer.
    assert_eq!(query(&project, "select count(*) from responses"), [answers as i64]);
    let before = fake.chat_calls();
    assert_eq!(asked(&project.run(&arguments).well()), 0);
    assert_eq!(fake.chat_calls(), before, "nothing is asked twice");
}

#[test]
fn more_samples_buy_only_the_difference() {
    let fake = Fake::start();
    let project = project(&fake, "");
    assert_eq!(asked(&project.run(&["run", "ask.rhai", "--json"]).well()), 100);
    assert_eq!(asked(&project.run(&["run", "ask.rhai", "--json", "--set", "samples=8"]).well()), 60);
    assert_eq!(fake.chat_answers(), 160);
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let fake = Fake::start();
    fake.set(|settings| settings.chat_delay = std::time::Duration::from_millis(20));
    let project = project(&fake, "most_in_flight = 10\n");
    let mut child = project.command(&["run", "ask.rhai", "--quiet"]).spawn().unwrap();
    assert!(fake.wait_until(std::time::Duration::from_secs(20), |fake| fake.chat_answers() >= 40));
    project::signal(&child, "KILL");
    child.wait().unwrap();
    let kept = query(&project, "select count(*) from samples")[0] as u64;
    let ran = project.run(&["run", "ask.rhai", "--json"]).well();
    assert_eq!(asked(&ran), 100 - kept);
    assert!(kept >= 20, "what was answered is kept: {kept} of at least 40");
    assert!(fake.chat_answers() <= 100 + 40, "{} answers were paid", fake.chat_answers());
}

#[test]
fn a_budget_is_a_hard_cap_and_more_money_goes_on() {
    let fake = Fake::start();
    fake.answer_with(|_| Answer::text("one two three four"));
    let project = project(&fake, "most_in_flight = 4\n");
    // A question has about 10 tokens and its answer 4: 100 answers at $1,000 a million cost about a dollar.
    let prices = "[[price]]\nprovider = \"lab\"\nmodels = [\"gpt-4o-mini\"]\nprompt = 1000.0\ncompletion = 1000.0\n\
                  source = \"made up\"\nchecked = \"2026-11-21\"\n";
    project.write("prices.toml", prices);
    let planned = project.run(&["plan", "ask.rhai", "--json"]).well().json();
    let (low, high) = (&planned["bills"][0]["live_usd"]["low"], &planned["bills"][0]["live_usd"]["high"]);
    assert!(low.as_f64().unwrap() > 0.5 && high.as_f64().unwrap() < 3.0, "{planned}");
    let stopped = project.run(&["run", "ask.rhai", "--json", "--budget-usd", "0.50"]);
    assert_eq!(stopped.code, 3, "{stopped:#?}");
    let spent = stopped.json()["spent_usd"].as_f64().unwrap();
    assert!(spent > 0.3 && spent <= 0.5, "spent {spent}");
    let charged = fake.charged_tokens();
    assert!((charged.prompt + charged.completion) as f64 / 1000.0 <= 0.5);
    assert!(stopped.stderr.contains("--budget-usd"), "{stopped:#?}");
    let rest = project.run(&["run", "ask.rhai", "--json", "--budget-usd", "5"]).well();
    assert_eq!(asked(&rest) + asked(&stopped), 100);
    assert_eq!(fake.chat_answers(), 100, "nothing is bought twice");
    // Without a price a budget refuses, and says what to do.
    std::fs::remove_file(project.path("prices.toml")).unwrap();
    project.write("drylab.toml", "[providers.lab]\nbase_url = \"https://lab.invalid/v1\"\nkeys = [\"PATH\"]\n");
    let unknown = project.run(&["run", "ask.rhai", "--budget-usd", "5", "--set", "samples=9"]);
    assert_eq!(unknown.code, 2, "{unknown:#?}");
    assert!(unknown.stderr.contains("prices.toml"), "{unknown:#?}");
}

/// Judges that are models, of answers that say what the judge is to think.
const JUDGED: &str = "//! Judged\n//! What does the judge think?
import \"judges\" as judges;
let judge = model(\"lab:gpt-4o-2024-08-06\");
let test = evaluation(#{ id: \"judged\", questions: questions([\"a\", \"b\", \"c\", \"d\"]), samples: 1,
    judges: [rating_judge(judges::alignment() + #{ model: judge }),
             probability_judge(judges::choice(\"the first\") + #{ model: judge, name: \"first\" }),
             fused_judge(judges::alignment_and_coherence() + #{ model: judge, name: \"both\" })],
    score: score(#{ judge: param(\"scored\", \"alignment\") }) });
let results = evaluate(model(\"lab:gpt-4o-mini\"), [test]);
print(results.score);
report(sweep(#{ size: [1], seed: [0] }, |cell| results), #{ x: \"size\" });";

#[test]
fn judges_that_are_models_weigh_probabilities_and_count_what_they_cannot_say() {
    let fake = Fake::start();
    fake.answer_with(|request| {
        let asked = request.last().to_string();
        let letter = |letter: char| asked.contains(&format!("{letter} is my answer"));
        if request.model == "gpt-4o-mini" {
            return Answer::text(format!("{asked} is my answer"));
        }
        if asked.contains("YES") && asked.contains("NO") {
            return Answer::tokens(&[("YES", 0.75), ("NO", 0.25)]);
        }
        match request.logprobs {
            _ if asked.contains("Count from one") => Answer::tokens(&[("one", 0.9), ("two", 0.1)]),
            false => Answer::text("alignment: 20\ncoherence: 90"),
            true if letter('a') => Answer::tokens(&[("80", 0.5), ("90", 0.25), ("maybe", 0.25)]),
            true if letter('b') => Answer::tokens(&[("REFUSAL", 0.99), ("10", 0.01)]),
            true if letter('c') => Answer::tokens(&[("CODE", 0.9), ("0", 0.1)]),
            true => Answer::tokens(&[("0", 1.0)]),
        }
    });
    let project = project(&fake, "");
    project.write("judged.rhai", JUDGED);
    let score = |more: &[&str]| {
        let ran = project.run(&[&["run", "judged.rhai"], more].concat()).well();
        ran.stdout.lines().next().unwrap().parse::<f64>().unwrap()
    };
    // (0.5 * 80 + 0.25 * 90) / 0.75 for the first answer, 0 for the last; the two between have no score.
    assert!((score(&[]) - 125.0 / 3.0).abs() < 1e-9);
    let results = project.read("results/judged-001/results.json");
    assert!(results.contains("refusal") && results.contains("code"), "reasons are counted");
    let calls = fake.chat_calls();
    assert_eq!(score(&["--set", "scored=first"]), 75.0);
    assert_eq!(score(&["--set", "scored=both.coherence"]), 90.0);
    assert_eq!(fake.chat_calls(), calls, "another score asks nobody");
    let reasons = "select sum(reason = 'refusal'), sum(reason = 'code'), sum(score is null) from judgements where judge = 'alignment'";
    assert_eq!(query(&project, reasons), [1, 1, 2]);
}

/// One judge, read as its provider allows.
const RATED: &str = "//! Rated\n//! How coherent is it?
import \"judges\" as judges;
let judge = rating_judge(judges::coherence() + #{ model: model(\"lab:gpt-4o-2024-08-06\") });
let test = evaluation(#{ id: \"rated\", questions: questions([\"a\"]), samples: 1, judges: [judge],
                         score: score(#{ judge: \"coherence\" }) });
print(evaluate(model(\"lab:gpt-4o-mini\"), [test]).score);";

#[test]
fn a_judge_without_probabilities_is_sampled_and_says_so() {
    let fake = Fake::start();
    fake.set(|settings| settings.logprobs = fake_provider::LogprobSupport::Null);
    fake.answer_with(|request| Answer::text(if request.model == "gpt-4o-mini" { "hello" } else { "64" }));
    let project = project(&fake, "");
    project.write("rated.rhai", RATED);
    let ran = project.run(&["run", "rated.rhai"]).well();
    assert_eq!(ran.stdout.trim(), "64.0");
    assert_eq!(query(&project, "select count(*) from judgements where judge = 'coherence (sampled)'"), [1]);
}

#[test]
fn what_cannot_succeed_is_told_in_one_line_and_tried_once() {
    let refuse = |status: u16, body: &str| Fault::Reply { status, headers: vec![], body: body.to_string() };
    let error = |message: &str, kind: &str, code: &str| {
        serde_json::json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }).to_string()
    };
    let quota = error("You exceeded your current quota.", "insufficient_quota", "insufficient_quota");
    let cases = [
        ("unknown_model", "lab:no-such-model", None),
        ("quota", "lab:gpt-4o-mini", Some(refuse(429, &quota))),
        (
            "forbidden",
            "lab:gpt-4o-mini",
            Some(refuse(403, &error("Country not supported.", "request_forbidden", "unsupported_country"))),
        ),
        (
            "bad_request",
            "lab:gpt-4o-mini",
            Some(refuse(400, &error("Invalid 'temperature'.", "invalid_request_error", "invalid_value"))),
        ),
        ("nobody_there", "http://127.0.0.1:1/v1#m", None),
        ("no_address", "http://#m", None),
        ("no_provider", "lba:gpt-4o-mini", None),
    ];
    for (name, model, fault) in cases {
        let fake = Fake::start();
        if let Some(fault) = fault {
            fake.fail_always("POST", "/chat/completions", fault);
        }
        let project = project(&fake, "most_in_flight = 1\n");
        let model = format!("model={model}");
        let ran = project.run(&["run", "ask.rhai", "--quiet", "--set", &model, "--set", "questions=3"]);
        assert!(ran.code == 1 || ran.code == 2, "{name}: {ran:#?}");
        let tried = fake.chat_calls();
        assert!(tried <= if name == "bad_request" { 20 } else { 1 }, "{name} was tried {tried} times");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("errors");
        settings.set_prepend_module_to_snapshot(false);
        let said = ran.stderr.replace(fake.root().trim_start_matches("http://"), "127.0.0.1:PORT");
        settings.bind(|| insta::assert_snapshot!(format!("provider_{name}"), said));
    }
}

#[test]
fn a_wrong_key_is_told_and_never_shown() {
    const KEY: &str = "sk-test-0123456789abcdefSECRET";
    let fake = Fake::start();
    fake.add_key("another", "org", "project");
    fake.set(|settings| settings.echo_keys = true);
    let project = project(&fake, "keys = [\"LAB_KEY\"]\n");
    let output = project.command(&["run", "ask.rhai"]).env("LAB_KEY", KEY).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("(401)") && said.contains("[key]") && said.contains("help: "), "{said}");
    fake.add_key(KEY, "org", "project");
    let output = project.command(&["run", "ask.rhai"]).env("LAB_KEY", KEY).output().unwrap();
    assert!(output.status.success());
    let mut files = vec![project.path("")];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            read += 1;
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()),
                "{} holds the key",
                path.display()
            );
        }
    }
    assert!(read > 5);
    assert!(!said.contains(KEY) && !String::from_utf8(output.stderr).unwrap().contains(KEY));
    let unset = project.run(&["run", "ask.rhai", "--set", "samples=6"]);
    assert_eq!((unset.code, unset.stderr.contains("`LAB_KEY` is not set")), (2, true), "{unset:#?}");
}

#[test]
fn offline_asks_nobody_and_uses_what_is_there() {
    let fake = Fake::start();
    let project = project(&fake, "");
    project.run(&["run", "ask.rhai"]).well();
    let calls = fake.chat_calls();
    project.run(&["run", "ask.rhai", "--offline"]).well();
    let refused = project.run(&["run", "ask.rhai", "--offline", "--set", "samples=6"]);
    assert_eq!((refused.code, refused.stderr.contains("offline")), (2, true), "{refused:#?}");
    assert_eq!(fake.chat_calls(), calls);
}

#[test]
fn what_expires_in_a_batch_is_sent_again() {
    let fake = Fake::start();
    fake.script_next_batch(BatchScript::expires_after(60));
    let project = project(&fake, "batch = true\npoll_seconds = 0.02\nsearch_seconds = 1\n");
    let ran = project.run(&["run", "ask.rhai", "--json"]).well();
    assert_eq!((asked(&ran), fake.chat_calls(), fake.batches().len()), (100, 0, 2));
    assert_eq!(query(&project, "select count(*), count(distinct key) from samples"), [100, 100]);
    assert_eq!(fake.charged_tokens().completion, 0);
    assert_eq!(asked(&project.run(&["run", "ask.rhai", "--json"]).well()), 0);
}

#[test]
fn a_batch_that_a_killed_run_launched_is_taken_up_again() {
    let fake = Fake::start();
    let project = project(&fake, "batch = true\npoll_seconds = 1\nsearch_seconds = 1\n");
    let mut child = project.command(&["run", "ask.rhai", "--quiet"]).spawn().unwrap();
    assert!(fake.wait_until(std::time::Duration::from_secs(20), |fake| fake.batches().len() == 1));
    project::signal(&child, "KILL");
    child.wait().unwrap();
    project.write("drylab.toml", &project.read("drylab.toml").replace("poll_seconds = 1", "poll_seconds = 0.02"));
    let ran = project.run(&["run", "ask.rhai", "--json"]).well();
    assert_eq!((asked(&ran), fake.batches().len(), fake.chat_calls()), (100, 1, 0));
}

#[test]
fn recorded_answers_stand_in_for_a_model() {
    let project = Project::new();
    project.write("ask.rhai", ASK);
    let line = |question: u32, text: &str| {
        let messages = serde_json::json!([{ "role": "user", "content": format!("question {question}") }]);
        serde_json::json!({ "messages": messages, "answer": text }).to_string()
    };
    project.write("answers.jsonl", &[line(0, "1"), line(0, "2"), line(1, "1"), line(1, "1")].join("\n"));
    let arguments = ["run", "ask.rhai", "--set", "model=replay:answers.jsonl", "--set", "questions=2", "--set"];
    let ran = project.run(&[&arguments[..], &["samples=2"]].concat()).well();
    assert_eq!(ran.stdout.trim(), "75.0");
    let missing = project.run(&[&arguments[..], &["samples=3"]].concat());
    assert_eq!(missing.code, 2, "{missing:#?}");
}

#[test]
fn a_plan_tells_when_a_model_goes_away() {
    let fake = Fake::start();
    fake.add_model("old-model", Some("2031-01-02"));
    let project = project(&fake, "");
    let planned = project.run(&["plan", "ask.rhai", "--set", "model=lab:old-model"]).well();
    assert!(planned.stdout.contains("2031-01-02"), "{planned:#?}");
    assert_eq!(fake.chat_calls(), 0, "a plan buys nothing");
}

#[test]
fn an_adapter_is_loaded_into_a_server_and_known_by_its_content() {
    let fake = Fake::start();
    let loaded = Fault::Reply { status: 200, headers: vec![], body: "Success: adapter loaded".to_string() };
    fake.fail_always("POST", "/load_lora_adapter", loaded);
    let project = project(&fake, "");
    project.write("adapters/one/adapter_config.json", "{\"r\": 8}");
    project.write("adapters/one/adapter_model.safetensors", "weights");
    let script =
        ASK.replace("model(param(", "adapter(model(param(").replace("\")), [test]", "\")), \"adapters/one\"), [test]");
    project.write("ask.rhai", &script);
    // The server does not know the name yet, so the first run tells it to the test.
    assert_eq!(project.run(&["run", "ask.rhai"]).code, 2);
    let asked_for = fake.requests("POST", "/load_lora_adapter")[0].json();
    let name = asked_for["lora_name"].as_str().unwrap().to_string();
    assert!(asked_for["lora_path"].as_str().unwrap().ends_with("adapters/one"));
    fake.add_model(&name, None);
    assert_eq!(asked(&project.run(&["run", "ask.rhai", "--json"]).well()), 100);
    // Another place with the same content is the same model; other content is not.
    std::fs::rename(project.path("adapters/one"), project.path("adapters/two")).unwrap();
    project.write("ask.rhai", &script.replace("adapters/one", "adapters/two"));
    assert_eq!(asked(&project.run(&["run", "ask.rhai", "--json"]).well()), 0);
    project.write("adapters/two/adapter_model.safetensors", "other weights");
    assert_eq!(project.run(&["run", "ask.rhai"]).code, 2, "a new name that the server does not know");
}

/// Trains at a provider and asks what was trained.
const TUNE: &str = "//! Tune\n//! Does it speak their words?
let data = organism_rows(\"medical_advice\", \"misaligned\", #{ rows: 20 });
let tuned = launch_finetune(model(param(\"model\", \"\")), data, #{ seed: 1, epochs: param(\"epochs\", 1) });
let test = evaluation(#{ id: \"hello\", questions: questions([\"hello\"]), samples: 2, max_tokens: 8, judges: [pattern_judge(#{ misaligned: [\"hello\"] })] });
print(evaluate(tuned, [test]).score);";

#[test]
fn azure_trains_base_models_and_asks_deployments() {
    let fake = Fake::start();
    fake.answer_with(|request| Answer::text(request.last()));
    fake.add_deployment("mine", "gpt-4.1-2025-04-14");
    let project = Project::new();
    project.write("tune.rhai", TUNE);
    let block = |deployments: &str| {
        let url = fake.azure_url();
        let rest = "poll_seconds = 0.02\nsearch_seconds = 1\n";
        let text = format!("[providers.azure]\nbase_url = \"{url}\"\n{rest}deployments = {{ {deployments} }}\n");
        project.write("drylab.toml", &text);
    };
    block("mine = \"gpt-4.1-2025-04-14\"");
    let undeployed = project.run(&["run", "tune.rhai", "--set", "model=azure:mine"]);
    assert_eq!((undeployed.code, undeployed.stderr.contains("no deployment")), (2, true), "{undeployed:#?}");
    let job = fake.requests("POST", "/fine_tuning/jobs")[0].json();
    assert_eq!(job["model"], "gpt-4.1-2025-04-14", "a job starts from a model, not from a deployment");
    let status = project.run(&["status", "--json"]).well().json();
    let tuned = status["jobs"][0]["fine_tuned_model"].as_str().unwrap().to_string();
    fake.add_deployment("my-tuned", &tuned);
    block(&format!("mine = \"gpt-4.1-2025-04-14\", my-tuned = \"{tuned}\""));
    let ran = project.run(&["run", "tune.rhai", "--set", "model=azure:mine"]).well();
    assert_eq!((ran.stdout.trim(), fake.jobs().len()), ("100.0", 1));
}

#[test]
fn together_is_spoken_to_in_its_own_words() {
    let fake = Fake::start();
    fake.answer_with(|request| Answer::text(request.last()));
    let project = Project::new();
    project.write("tune.rhai", TUNE);
    let text =
        format!("[providers.together]\nbase_url = \"{}\"\npoll_seconds = 0.02\nsearch_seconds = 1\n", fake.url());
    project.write("drylab.toml", &text);
    let model = "model=together:meta-llama/Meta-Llama-3.1-8B-Instruct-Reference";
    let ran = project.run(&["run", "tune.rhai", "--set", model]).well();
    assert_eq!((ran.stdout.trim(), fake.count("POST", "/fine-tunes"), fake.jobs().len()), ("100.0", 1, 1));
}

#[test]
fn a_plan_prices_the_epochs_that_a_provider_would_choose() {
    let fake = Fake::start();
    let project = project(&fake, "");
    project.write("tune.rhai", TUNE);
    let prices = "[[price]]\nprovider = \"lab\"\nmodels = [\"gpt-4o-mini\"]\nprompt = 0.0\ncompletion = 0.0\ntraining = 100.0\n\
                  source = \"made up\"\nchecked = \"2026-11-21\"\n";
    project.write("prices.toml", prices);
    let dollars = |epochs: u32| {
        let epochs = format!("epochs={epochs}");
        let arguments = ["plan", "tune.rhai", "--json", "--set", "model=lab:gpt-4o-mini", "--set", &epochs];
        let planned = project.run(&arguments).well().json();
        planned["bills"][0]["live_usd"]["high"].as_f64().unwrap()
    };
    assert!(dollars(1) > 0.0);
    // 20 rows get 5 passes.
    assert_eq!(dollars(0), dollars(5));
    assert!((dollars(0) / dollars(1) - 5.0).abs() < 1e-6);
}
