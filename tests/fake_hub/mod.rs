//! A Hugging Face hub on loopback with a second host for large files, both of which misbehave on request and remember
//! what was asked of them.
#![allow(dead_code, clippy::unwrap_used, reason = "test code, of which every binary uses another part")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use drylab::provider::sha256::sha256;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

/// Files from this length on are large: they lie on the other host and are known by their SHA-256.
const LARGE: usize = 10_000;
/// What a signed address bears; it must not be shown either.
pub const SIGNATURE: &str = "Signature=s3cret-signature";

/// What happens to the next request for content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mishap {
    /// The connection breaks after so many bytes.
    CutAfter(usize),
    /// Nothing comes after so many bytes, and the connection stays.
    StallAfter(usize),
    /// Other bytes come, as many as there should be.
    Corrupt,
    /// The whole file comes whatever was asked for.
    IgnoreRange,
    /// An answer of this status.
    Status(u16),
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether it reached the host of the large files.
    pub elsewhere: bool,
    pub method: String,
    /// With its query.
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// A repository.
#[derive(Clone, Default)]
pub struct Repository {
    pub files: BTreeMap<String, Vec<u8>>,
    pub gated: bool,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    asked: Vec<Asked>,
    mishaps: VecDeque<(String, Mishap)>,
    token: Option<String>,
    elsewhere: u16,
}

/// A running hub; its threads end with the process.
pub struct FakeHub {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl FakeHub {
    /// Starts both hosts.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let elsewhere = listen(state.clone(), true);
        state.lock().unwrap().elsewhere = elsewhere;
        FakeHub { port: listen(state.clone(), false), state }
    }

    /// The address of the hub.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    /// Adds a repository with the files of a folder.
    pub fn add_folder(&self, id: &str, folder: &Path) {
        let files = fs::read_dir(folder).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        });
        let repository = Repository { files: files.collect(), gated: false };
        self.state().repositories.insert(id.to_string(), repository);
    }
    /// Changes a repository.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Repository)) {
        change(self.state().repositories.get_mut(id).unwrap());
    }
    /// The commit that `main` and the tag `v1` mean.
    pub fn commit(&self, id: &str) -> String {
        commit_of(&self.state().repositories[id])
    }
    /// From now on content is given to those with this token only.
    pub fn want_token(&self, token: &str) {
        self.state().token = Some(token.to_string());
    }
    /// Requests whose path holds `part` meet these mishaps, one after the other.
    pub fn mishaps(&self, part: &str, mishaps: &[Mishap]) {
        self.state().mishaps.extend(mishaps.iter().map(|mishap| (part.to_string(), *mishap)));
    }
    /// Mishaps that did not happen yet.
    pub fn mishaps_left(&self) -> usize {
        self.state().mishaps.len()
    }
    /// Everything that arrived since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }
}

fn commit_of(repository: &Repository) -> String {
    let mut all = Vec::new();
    for (path, content) in &repository.files {
        all.extend_from_slice(path.as_bytes());
        all.extend_from_slice(content);
    }
    sha256(&all)[..40].to_string()
}

/// The number under which git knows a content.
fn git_digest(content: &[u8]) -> String {
    let whole = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listen(state: Arc<Mutex<State>>, elsewhere: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (Ok(socket), state) = (socket, state.clone()) else { return };
            std::thread::spawn(move || serve(socket, &state, elsewhere));
        }
    });
    port
}

/// An answer in the making.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn json(body: Value) -> Self {
        Reply { status: 200, headers: vec![("Content-Type", "application/json".into())], body: body.to_string().into() }
    }
    fn error(status: u16, code: &str, message: &str) -> Self {
        let headers = match code {
            "" => vec![("X-Error-Message", message.to_string())],
            code => vec![("X-Error-Code", code.to_string()), ("X-Error-Message", message.to_string())],
        };
        Reply { status, headers, body: json!({ "error": message }).to_string().into() }
    }
}

/// One request, one answer, and the end of the connection.
fn serve(mut socket: TcpStream, state: &Mutex<State>, elsewhere: bool) {
    let Some(asked) = read_request(&socket, elsewhere) else { return };
    let (reply, mishap) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let place = state.mishaps.iter().position(|(part, _)| asked.path.contains(part.as_str()));
        let mishap = place.and_then(|place| state.mishaps.remove(place)).map(|(_, mishap)| mishap);
        let mut asked = asked.clone();
        if mishap == Some(Mishap::IgnoreRange) {
            asked.range = None;
        }
        let reply = match mishap {
            Some(Mishap::Status(status)) => {
                Reply { status, headers: vec![("Retry-After", "0".to_string())], body: b"<html>busy</html>".to_vec() }
            }
            _ if elsewhere => of_large(&state, &asked),
            _ => of_hub(&state, &asked),
        };
        (reply, mishap)
    };
    let Reply { status, headers, mut body } = reply;
    if mishap == Some(Mishap::Corrupt) {
        body.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let _ = socket.write_all(format!("{head}\r\n").as_bytes());
    if asked.method == "HEAD" {
        return;
    }
    match mishap {
        Some(Mishap::CutAfter(bytes)) => _ = socket.write_all(&body[..bytes.min(body.len())]),
        Some(Mishap::StallAfter(bytes)) => {
            let _ = socket.write_all(&body[..bytes.min(body.len())]);
            // Until the other end goes away.
            let _ = socket.read(&mut [0]);
        }
        _ => _ = socket.write_all(&body),
    }
}

fn read_request(socket: &TcpStream, elsewhere: bool) -> Option<Asked> {
    let mut lines = BufReader::new(socket).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut asked = Asked { elsewhere, method, path, range: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_lowercase().as_str() {
            "range" => asked.range = Some(value.trim().to_string()),
            "authorization" => asked.authorization = Some(value.trim().to_string()),
            _ => {}
        }
    }
    Some(asked)
}

fn of_hub(state: &State, asked: &Asked) -> Reply {
    let path = asked.path.split('?').next().unwrap().replace("%2F", "/");
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let token = asked.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
    if token.is_some() && token != state.token.as_deref() {
        return Reply::error(401, "", "Invalid credentials in Authorization header");
    }
    let is_open = state.token.is_none() || token.is_some();
    let (id, rest) = match parts.as_slice() {
        ["api", "models", owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        [owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        _ => return Reply::error(404, "", "Not found"),
    };
    let Some(repository) = state.repositories.get(&id) else {
        // Whoever has no token is not told whether there is a private one.
        return match token {
            Some(_) => Reply::error(404, "RepoNotFound", "Repository not found"),
            None => Reply::error(401, "", "Invalid username or password."),
        };
    };
    let commit = commit_of(repository);
    let (kind, revision, path) = match rest {
        [] => ("revision", "main", String::new()),
        [kind @ "revision", revision @ ..] => (*kind, "", revision.join("/")),
        [kind, revision, path @ ..] => (*kind, *revision, path.join("/")),
        _ => return Reply::error(404, "", "Not found"),
    };
    let revision = if revision.is_empty() { path.as_str() } else { revision };
    if !["main", "v1", "refs/pr/1", commit.as_str()].contains(&revision) {
        return Reply::error(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"));
    }
    match kind {
        "revision" => Reply::json(describe(&id, &commit, repository)),
        "tree" => Reply::json(repository.files.iter().map(|(path, content)| tree_entry(path, content)).collect()),
        "resolve" if repository.gated => {
            let status = if token.is_some() { 403 } else { 401 };
            Reply::error(status, "GatedRepo", "Access to this model is restricted.")
        }
        "resolve" if !is_open => Reply::error(401, "", "Invalid username or password."),
        "resolve" => match repository.files.get(&path) {
            Some(content) => of_file(state, asked, &commit, content),
            None => {
                let reply = Reply::error(404, "EntryNotFound", "Entry not found");
                Reply { headers: [reply.headers, vec![("X-Repo-Commit", commit)]].concat(), ..reply }
            }
        },
        _ => Reply::error(404, "", "Not found"),
    }
}

fn describe(id: &str, commit: &str, repository: &Repository) -> Value {
    let sibling = |(path, content): (&String, &Vec<u8>)| {
        let mut sibling = json!({ "rfilename": path, "size": content.len(), "blobId": git_digest(content) });
        if content.len() >= LARGE {
            sibling["lfs"] = json!({ "sha256": sha256(content), "size": content.len(), "pointerSize": 130 });
        }
        sibling
    };
    let siblings: Vec<Value> = repository.files.iter().map(sibling).collect();
    json!({ "_id": "1", "id": id, "modelId": id, "sha": commit, "private": false, "gated": repository.gated,
            "disabled": false, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings })
}

fn tree_entry(path: &str, content: &[u8]) -> Value {
    let mut entry = json!({ "type": "file", "path": path, "size": content.len(), "oid": git_digest(content) });
    if content.len() >= LARGE {
        entry["lfs"] = json!({ "oid": sha256(content), "size": content.len(), "pointerSize": 130 });
    }
    entry
}

fn of_file(state: &State, asked: &Asked, commit: &str, content: &[u8]) -> Reply {
    let mut headers = vec![("X-Repo-Commit", commit.to_string())];
    if content.len() < LARGE {
        headers.push(("ETag", format!("\"{}\"", git_digest(content))));
        let reply = ranged(asked, content);
        return Reply { headers: [headers, reply.headers].concat(), ..reply };
    }
    let digest = sha256(content);
    headers.push(("X-Linked-Etag", format!("\"{digest}\"")));
    headers.push(("X-Linked-Size", content.len().to_string()));
    headers.push(("Location", format!("http://127.0.0.1:{}/{digest}?{SIGNATURE}", state.elsewhere)));
    Reply { status: 302, headers, body: Vec::new() }
}

fn of_large(state: &State, asked: &Asked) -> Reply {
    let digest = asked.path.trim_start_matches('/').split('?').next().unwrap();
    let all = state.repositories.values().flat_map(|repository| repository.files.values());
    match all.into_iter().find(|content| sha256(content) == digest) {
        // As the hosts of signed addresses do, where two ways of signing meet.
        Some(_) if asked.authorization.is_some() => Reply::error(400, "", "Only one auth mechanism allowed"),
        Some(content) => ranged(asked, content),
        None => Reply::error(403, "", "Access denied"),
    }
}

fn ranged(asked: &Asked, content: &[u8]) -> Reply {
    let from: Option<usize> =
        asked.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let whole = content.len();
    match from {
        None => Reply { status: 200, headers: vec![("Content-Length", whole.to_string())], body: content.to_vec() },
        Some(from) if from >= whole => Reply::error(416, "", "Range not satisfiable"),
        Some(from) => Reply {
            status: 206,
            headers: vec![
                ("Content-Range", format!("bytes {from}-{}/{whole}", whole - 1)),
                ("Content-Length", (whole - from).to_string()),
            ],
            body: content[from..].to_vec(),
        },
    }
}
