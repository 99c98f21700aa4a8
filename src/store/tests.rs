//! What the store promises: durable rows, healed blobs, one execution across processes, old and foreign files refused.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::filesystem::FileSystem;
use super::*;

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(number: u64) -> Key {
    Key::new("launch_finetune", 1, json!({"data": "ab"}), json!({"seed": number})).unwrap()
}

fn record(key: &Key, blob: Option<Digest>) -> CallRecord {
    CallRecord {
        key: key.clone(),
        options: Some(json!({"seed": 1, "learning_rate": 1e-4})),
        output: Some(json!({"loss": 0.5})),
        blob,
        started_at: time(1_700_000_000),
        seconds: 1.25,
        program: "drylab 0.1.0".into(),
        run: "2026-01-01-a05b".into(),
        host: "laptop".into(),
    }
}

fn sample(key: &Key, number: u32) -> Sample {
    Sample {
        key: key.sample(number.into()),
        call: key.digest(),
        question_index: number / 100,
        sample_index: number % 100,
        answer: format!("answer {number} \0 \"é\""),
        finish: "stop".into(),
        tokens: 12,
        logprob: number.is_multiple_of(2).then_some(-3.5),
        created_at: time(u64::from(number)),
    }
}

fn judgement(key: &Key, number: u32) -> Judgement {
    let missing = number.is_multiple_of(3);
    Judgement {
        key: key.sample(number.into()),
        sample: Some(key.sample(number.into())),
        judge: "coherence".into(),
        score: (!missing).then_some(f64::from(number) / 7.0),
        reason: missing.then(|| "unparsable".into()),
        detail: None,
    }
}

#[test]
fn store_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Store>();
}

#[test]
fn everything_reads_back_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results/a b?%41#/store");
    let key = key(1);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get_call(key.digest()).unwrap(), None);
    let blob = store.put_blob(b"weights").unwrap();
    store.put_call(&record(&key, Some(blob))).unwrap();
    let samples: Vec<_> = (0..150).map(|number| sample(&key, number)).collect();
    let judgements: Vec<_> = (0..150).map(|number| judgement(&key, number)).collect();
    store.put_samples(&samples[..100]).unwrap();
    store.put_judgements(&judgements).unwrap();
    drop(store);

    assert!(path.join("index.sqlite").is_file());
    for store in [Store::open(&path).unwrap(), Store::open_read_only(&path).unwrap()] {
        assert_eq!(store.get_call(key.digest()).unwrap().unwrap(), record(&key, Some(blob)));
        assert_eq!(store.get_blob(blob).unwrap().unwrap(), b"weights");
        let keys: Vec<_> = samples.iter().rev().map(|sample| sample.key).collect();
        let found = store.get_samples(&keys).unwrap();
        // In the order asked for; the 50 that were never bought are missing.
        assert!(found[..50].iter().all(Option::is_none));
        assert!(found[50..].iter().flatten().eq(samples[..100].iter().rev()));
        assert!(store.get_judgements(&keys).unwrap().into_iter().flatten().eq(judgements.iter().rev().cloned()));
        let report = store.fsck().unwrap();
        assert_eq!((report.calls, report.samples, report.judgements, report.intact_blobs), (1, 100, 150, 1));
        assert_eq!(report.problems, [] as [&str; 0]);
    }
}

#[test]
fn last_write_wins_and_recent_calls_come_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for number in 0..3 {
        let mut call = record(&key(number), None);
        call.started_at = time(100 - number);
        store.put_call(&call).unwrap();
    }
    let mut again = record(&key(2), None);
    again.output = Some(json!(7));
    store.put_call(&again).unwrap();
    let recent = store.recent_calls("launch_finetune", 2).unwrap();
    assert_eq!(recent, [again, CallRecord { started_at: time(100), ..record(&key(0), None) }]);
    assert_eq!(store.recent_calls("evaluate", 9).unwrap(), []);
}

#[test]
fn batch_is_stored_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let failed: Result<()> = store.index.write(|transaction| {
        super::sample::put(transaction, &[sample(&key(1), 0)])?;
        transaction.execute("INSERT INTO samples (key) VALUES ('incomplete')", [])?;
        Ok(())
    });
    assert!(failed.is_err());
    assert_eq!(store.get_samples(&[sample(&key(1), 0).key]).unwrap(), [None]);
}

#[test]
fn row_implies_its_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(store.put_call(&record(&key(1), Some(Digest::of(b"never stored")))).is_err());
    assert_eq!(store.get_call(key(1).digest()).unwrap(), None);
}

#[test]
fn fsck_names_lost_blobs_and_forged_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let blob = store.put_blob(b"weights").unwrap();
    store.put_blob(b"nobody's").unwrap();
    store.put_call(&record(&key(1), Some(blob))).unwrap();
    store.put_call(&record(&key(2), None)).unwrap();
    fs::remove_file(store.blob_path(blob)).unwrap();
    store.index.write(|transaction| transaction.execute("UPDATE calls SET key = 'ff' WHERE blob IS NULL", [])).unwrap();
    let report = store.fsck().unwrap();
    assert_eq!((report.intact_blobs, report.unreferenced_blobs), (0, 1));
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    assert!(report.problems[0].contains("lost or altered") && report.problems[0].contains(&blob.to_string()));
    assert!(report.problems[1].contains("not the digest"));
}

#[test]
fn newer_schema_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let newer = index::SCHEMA_VERSION + 1;
    store.index.write(|transaction| transaction.pragma_update(None, "user_version", newer)).unwrap();
    drop(store);
    for refused in [Store::open(folder.path()), Store::open_read_only(folder.path())] {
        let error = refused.unwrap_err();
        assert!(error.message.contains(&format!("schema has version {newer}")), "{error}");
        assert_eq!(error.kind, crate::error::Kind::Input);
    }
}

#[test]
fn read_only_store_reads_and_refuses_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Store::open_read_only(folder.path().join("nothing")).unwrap_err();
    assert!(missing.message.contains("no store at"), "{missing}");
    Store::open(folder.path()).unwrap().put_call(&record(&key(1), None)).unwrap();
    let store = Store::open_read_only(folder.path()).unwrap();
    assert!(store.is_read_only() && store.get_call(key(1).digest()).unwrap().is_some());
    assert!(store.put_call(&record(&key(2), None)).is_err());
    assert!(store.put_blob(b"x").is_err());
    assert!(store.lock(key(2).digest()).is_err());
}

#[test]
fn immutable_reader_sees_a_closed_store() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap().put_call(&record(&key(1), None)).unwrap();
    // A closed store leaves no log, so that a read-only medium shows all of it.
    assert!(!folder.path().join("index.sqlite-wal").exists());
    let index = Index::immutable(&folder.path().join("index.sqlite")).unwrap();
    assert!(index.read(|transaction| super::call::get(transaction, key(1).digest())).unwrap().is_some());
    assert!(!folder.path().join("index.sqlite-shm").exists());
}

#[test]
fn network_file_system_gets_no_write_ahead_log_and_a_note() {
    let folder = tempfile::tempdir().unwrap();
    for (file_system, journal) in [(FileSystem::Network("NFS"), "delete"), (FileSystem::Local, "wal")] {
        // Also when the store was made elsewhere and moved.
        let store = Store::open_on(folder.path(), file_system).unwrap();
        store.put_call(&record(&key(1), None)).unwrap();
        let mode = |transaction: &rusqlite::Transaction| {
            transaction.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))
        };
        assert_eq!(store.index.read(mode).unwrap(), journal);
        assert_eq!(store.notes().iter().any(|note| note.contains("NFS")), journal == "delete");
    }
}

#[test]
fn another_name_for_a_file_that_is_no_index_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.sqlite"), vec![b'x'; 5000]).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(error.help.unwrap().contains("fsck"));
}

const ROLE: &str = "DRYLAB_STORE_TEST_ROLE";
const FOLDER: &str = "DRYLAB_STORE_TEST_FOLDER";
const FROM: &str = "DRYLAB_STORE_TEST_FROM";

/// Starts this test binary again, as a second process in the given role.
fn start(role: &str, folder: &Path, from: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::tests::second_process", "--exact", "--nocapture", "--test-threads=1"])
        .envs([(ROLE, role), (FOLDER, folder.to_str().unwrap()), (FROM, &from.to_string())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn second_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = std::env::var(FOLDER).unwrap();
    let from: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    match role.as_str() {
        "work once" => work_once(Path::new(&folder)),
        "write until killed" => write_until_killed(Path::new(&folder), from),
        other => panic!("unknown role {other}"),
    }
}

fn work_once(folder: &Path) {
    let store = Store::open(folder).unwrap();
    for number in 0..5 {
        let key = key(number);
        let _lock = store.lock(key.digest()).unwrap();
        if store.get_call(key.digest()).unwrap().is_none() {
            let mut log = fs::OpenOptions::new().append(true).create(true).open(folder.join("executions")).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            writeln!(log, "{number}").unwrap();
            store.put_call(&record(&key, None)).unwrap();
        }
    }
}

#[test]
fn equal_calls_in_two_processes_are_one_execution() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..3).map(|_| start("work once", folder.path(), 0)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let mut executions: Vec<_> =
        fs::read_to_string(folder.path().join("executions")).unwrap().lines().map(String::from).collect();
    executions.sort();
    assert_eq!(executions, ["0", "1", "2", "3", "4"]);
    assert_eq!(fs::read_dir(folder.path().join("locks")).unwrap().count(), 0);
}

fn write_until_killed(folder: &Path, from: u64) {
    let store = Store::open(folder).unwrap();
    let _lock = store.lock(Digest::of(b"held until death")).unwrap();
    for number in from.. {
        let key = key(number);
        let blob = store.put_blob(format!("blob {number}").repeat(1000).as_bytes()).unwrap();
        store.put_samples(&(0..20).map(|index| sample(&key, index)).collect::<Vec<_>>()).unwrap();
        store.put_call(&record(&key, Some(blob))).unwrap();
        // Standard output of a test is captured by the harness; the acknowledgement must leave the process at once.
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "acknowledged {number}").unwrap();
        stdout.flush().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0;
    for round in 0..10 {
        let mut child = start("write until killed", folder.path(), next);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acknowledged = Vec::new();
        let mut note =
            |line: String| acknowledged.extend(line.split("acknowledged ").nth(1).map(|n| n.parse::<u64>().unwrap()));
        // A few commits, then anywhere in the next ones.
        (0..6).for_each(|_| note(lines.next().unwrap()));
        std::thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(note);

        let store = Store::open(folder.path()).unwrap();
        assert!(store.try_lock(Digest::of(b"held until death")).unwrap().is_some(), "the lock outlived its owner");
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        assert!(acknowledged.len() >= 3);
        for number in acknowledged {
            let call = store.get_call(key(number).digest()).unwrap().unwrap();
            assert!(store.get_blob(call.blob.unwrap()).unwrap().is_some());
            let keys: Vec<_> = (0..20).map(|index| key(number).sample(index)).collect();
            assert!(store.get_samples(&keys).unwrap().iter().all(Option::is_some));
            next = number + 1;
        }
        assert_eq!(store.fsck().unwrap().problems, [] as [&str; 0]);
    }
}

/// `cargo test --release --lib store:: -- --ignored --nocapture` on a quiet machine.
#[test]
#[ignore = "measures, and asserts nothing but what it read"]
fn measure() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let report = |what: &str, from: Instant, items: u32| {
        println!("{what}: {:?}, {:?} each", from.elapsed(), from.elapsed() / items);
    };
    let from = Instant::now();
    let store = Store::open(folder.path()).unwrap();
    report("create", from, 1);
    let key = key(1);
    let samples: Vec<_> =
        (0..100_000).map(|n| Sample { answer: "some words ".repeat(30), ..sample(&key, n) }).collect();
    let judgements: Vec<_> = (0..100_000).map(|n| judgement(&key, n)).collect();
    let from = Instant::now();
    samples.chunks(1000).for_each(|batch| store.put_samples(batch).unwrap());
    report("write samples by 1000", from, 100_000);
    let from = Instant::now();
    store.put_judgements(&judgements).unwrap();
    report("write judgements at once", from, 100_000);
    drop(store);
    let from = Instant::now();
    let store = Store::open(folder.path()).unwrap();
    report("open", from, 1);
    let from = Instant::now();
    let keys: Vec<_> = (0..100_000).map(|number| key.sample(number)).collect();
    report("sample keys", from, 100_000);
    for _ in 0..2 {
        let from = Instant::now();
        assert!(store.get_samples(&keys).unwrap().into_iter().flatten().eq(samples.iter().cloned()));
        report("read samples", from, 100_000);
        let from = Instant::now();
        assert!(store.get_judgements(&keys).unwrap().iter().all(Option::is_some));
        report("read judgements", from, 100_000);
    }
    let from = Instant::now();
    (0..200).for_each(|number| store.put_call(&record(&super::tests::key(number), None)).unwrap());
    report("put_call", from, 200);
    let from = Instant::now();
    (0..200).for_each(|number| assert!(store.get_call(super::tests::key(number).digest()).unwrap().is_some()));
    report("get_call", from, 200);
    let from = Instant::now();
    (0..200u32).for_each(|number| _ = store.put_blob(&number.to_le_bytes()).unwrap());
    report("put_blob", from, 200);
    let from = Instant::now();
    (0..200).for_each(|number| drop(store.lock(super::tests::key(number).digest()).unwrap()));
    report("lock", from, 200);
}

/// A store as version 1 of the tables left it.
fn write_version_1(folder: &Path) {
    drop(Store::open(folder).unwrap());
    let connection = rusqlite::Connection::open(folder.join("index.sqlite")).unwrap();
    for table in ["launches", "uploads", "responses", "batches"] {
        connection.execute(&format!("DROP TABLE {table}"), []).unwrap();
    }
    connection.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_file_of_version_1_is_led_forward_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap().put_call(&record(&key(1), None)).unwrap();
    write_version_1(folder.path());

    let old = Store::open_read_only(folder.path()).unwrap();
    assert!(old.get_call(key(1).digest()).unwrap().is_some());
    assert_eq!(old.launches().unwrap(), []);
    assert_eq!(old.get_responses(&[key(1).digest()]).unwrap(), [None]);
    assert!(old.get_batch(key(1).digest()).unwrap().is_none() && old.batches().unwrap().is_empty());
    drop(old);

    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.get_call(key(1).digest()).unwrap().unwrap(), record(&key(1), None));
    let response = Response {
        key: key(1).digest(),
        body: "{\"id\": \"é\"}".into(),
        request_id: Some("req_1".into()),
        created_at: time(3),
    };
    store.put_responses(std::slice::from_ref(&response)).unwrap();
    let upload = Upload {
        provider: "openai".into(),
        identity: "o/p".into(),
        sha256: "ab".into(),
        bytes: 7,
        file_id: "file-1".into(),
        created_at: time(4),
    };
    store.put_upload(&upload).unwrap();
    store.put_batch(key(1).digest(), &json!({"ids": ["batch_1"]}), time(5)).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.get_responses(&[key(2).digest(), key(1).digest()]).unwrap(), [None, Some(response)]);
    assert_eq!(store.get_upload("openai", "o/p", "ab").unwrap(), Some(upload));
    assert_eq!(store.get_upload("openai", "o/q", "ab").unwrap(), None);
    assert_eq!(store.get_batch(key(1).digest()).unwrap(), Some(json!({"ids": ["batch_1"]})));
    assert_eq!(store.batches().unwrap().len(), 1);
    let schema = |store: &Store| {
        let query = "SELECT group_concat(sql) FROM (SELECT sql FROM sqlite_schema ORDER BY name)";
        store.index.read(|transaction| transaction.query_row(query, [], |row| row.get::<_, String>(0))).unwrap()
    };
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(schema(&store), schema(&Store::open(fresh.path()).unwrap()), "led forward and new files differ");
}
