//! Models by their names on the hub, from a server of the test's own that serves a golden model and misbehaves on demand.

#[path = "../../src/hub/tests/it/host.rs"]
mod host;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::host::{Answer, Request, Server, git_hash, sha256, sibling};
use crate::common::bitworth;

const COMMIT: &str = "1234567890abcdef1234567890abcdef12345678";
const MODEL: &str = "hf:owner/llama31_gqa";
const WEIGHTS: &str = "model.safetensors";
const TEXT: &str = "Words, 123 of them; and\n\n a line. Zażółć gęślą jaźń.";
/// Whatever of the caller's environment could reach the program.
const VARIABLES: [&str; 16] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "NO_PROXY",
];

/// The golden model that is served.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf/llama31_gqa")
}

type Files = BTreeMap<String, Vec<u8>>;

/// The golden model's files, and some that nobody needs.
fn repository() -> Files {
    let model = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS];
    let mut files: Files = model.iter().map(|name| ((*name).to_owned(), std::fs::read(golden().join(name)).unwrap())).collect();
    for name in ["consolidated.safetensors", "pytorch_model.bin", "onnx/model.onnx", "original/config.json", "LICENSE"] {
        files.insert(name.to_owned(), b"not wanted".to_vec());
    }
    files
}

impl Request {
    /// The file it asks for.
    fn file(&self) -> Option<&str> {
        self.path.split_once(&format!("/resolve/{COMMIT}/")).map(|(_, file)| file)
    }

    fn is_for(&self, file: &str) -> bool {
        self.file() == Some(file)
    }
}

/// A hub on this machine.
struct Hub {
    server: Server,
}

impl Hub {
    fn new(files: Files) -> Self {
        Self::with(files, |_, _| None)
    }

    /// One that does what the rule says instead of answering well.
    fn with(files: Files, rule: impl Fn(&Request, &Files) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self { server: Server::new(move |request| rule(request, &files).unwrap_or_else(|| well(request, &files))) }
    }

    fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// The files asked for since the last call, and how often the list of them.
    fn asked(&self) -> (Vec<String>, usize) {
        let requests = std::mem::take(&mut *self.server.asked.lock().unwrap());
        let files: Vec<String> = requests.iter().filter_map(|request| request.file()).map(str::to_owned).collect();
        let lists = requests.iter().filter(|request| request.path.starts_with("/api/")).count();
        assert_eq!(files.len() + lists, requests.len(), "asked for something else");
        (files, lists)
    }
}

/// The answer of a hub that works.
fn well(request: &Request, files: &Files) -> Answer {
    if request.path == "/api/models/owner/llama31_gqa/revision/main?blobs=true"
        || request.path == format!("/api/models/owner/llama31_gqa/revision/{COMMIT}?blobs=true")
    {
        return Answer::new(200, listing(files).to_string());
    }
    match request.file().and_then(|file| files.get(file)) {
        Some(content) => Answer::file(request, content),
        None => Answer::new(404, "").with("x-error-code", "EntryNotFound"),
    }
}

fn listing(files: &Files) -> Value {
    let siblings: Vec<Value> = files.iter().map(|(name, content)| sibling(name, content, is_large(name))).collect();
    json!({"id": "owner/llama31_gqa", "sha": COMMIT, "gated": false, "siblings": siblings})
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".gguf", "tokenizer.json"].iter().any(|end| name.ends_with(end))
}

/// A folder for one test, with a cache of its own.
struct World(TempDir);

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("text.txt"), TEXT).unwrap();
        Self(dir)
    }

    fn command(&self, endpoint: &str, args: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = bitworth(self.0.path());
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", self.0.path().join("hf")).args(args);
        command.envs(variables.iter().copied());
        command
    }

    fn run(&self, endpoint: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(endpoint, args, variables).output().unwrap()
    }

    /// The token ids that a model gives.
    #[track_caller]
    fn tokens_with(&self, endpoint: &str, model: &str, variables: &[(&str, &str)]) -> Value {
        let output = self.run(endpoint, &["tokenize", model, "--text", "text.txt", "--json", "--quiet"], variables);
        assert_eq!(output.status.code(), Some(0), "{model}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["tokens"].clone()
    }

    #[track_caller]
    fn tokens(&self, hub: &Hub) -> Value {
        self.tokens_with(&hub.endpoint(), MODEL, &[])
    }

    /// The token ids that the golden model's folder gives.
    #[track_caller]
    fn expected(&self) -> Value {
        let tokens = self.tokens_with("http://unused", golden().to_str().unwrap(), &[]);
        assert!(tokens.as_array().unwrap().len() > 10, "{tokens}");
        tokens
    }

    /// One clear error that has all of `expected`.
    #[track_caller]
    fn refused(&self, endpoint: &str, model: &str, variables: &[(&str, &str)], expected: &[&str]) {
        let output = self.run(endpoint, &["tokenize", model, "--text", "text.txt"], variables);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(error.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{error}");
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("hf/hub/models--owner--llama31_gqa").join(path)
    }

    fn blob(&self, name: &str, content: &[u8]) -> PathBuf {
        let hash = if is_large(name) { sha256(content) } else { git_hash(content) };
        self.path("blobs").join(hash)
    }

    /// What the cache holds of contents, whole and unfinished.
    fn blobs(&self) -> Vec<String> {
        let Ok(folder) = std::fs::read_dir(self.path("blobs")) else { return Vec::new() };
        let mut names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn unfinished(&self, name: &str, content: &[u8]) -> PathBuf {
        let mut path = self.blob(name, content).into_os_string();
        path.push(".incomplete");
        path.into()
    }
}

#[test]
fn a_model_is_fetched_once_and_laid_out_as_other_tools_have_it() {
    let (world, files) = (World::new(), repository());
    let hub = Hub::new(files.clone());
    assert_eq!(world.tokens(&hub), world.expected());
    let wanted = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS];
    let (mut asked, lists) = hub.asked();
    asked.sort();
    let mut sorted = wanted.map(str::to_owned);
    sorted.sort();
    assert_eq!((asked.as_slice(), lists), (sorted.as_slice(), 1));

    for name in wanted {
        let (path, content) = (world.path(&format!("snapshots/{COMMIT}/{name}")), &files[name]);
        assert_eq!(std::fs::read(&path).unwrap(), *content, "{name}");
        let blob = world.blob(name, content);
        assert_eq!(std::fs::read(&blob).unwrap(), *content, "{name}");
        if cfg!(unix) {
            assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../../blobs").join(blob.file_name().unwrap()));
        }
    }
    assert_eq!(world.blobs().len(), wanted.len());
    assert_eq!(std::fs::read_to_string(world.path("refs/main")).unwrap(), COMMIT);
    assert!(world.path(&format!(".no_exist/{COMMIT}/README.md")).is_file());
    assert!(!world.path(&format!("snapshots/{COMMIT}/pytorch_model.bin")).exists());

    assert_eq!(world.tokens(&hub), world.expected());
    assert_eq!(hub.asked(), (vec![], 1), "what is there is not fetched again");
    // A commit never changes.
    world.tokens_with(&hub.endpoint(), &format!("{MODEL}@{COMMIT}"), &[]);
    assert_eq!(hub.asked(), (vec![], 0), "a commit that is there whole needs no network");
}

#[test]
fn a_fetched_model_converts_as_its_folder_does() {
    let world = World::new();
    let mut files = repository();
    files.insert("README.md".to_owned(), b"---\nlicense: mit\nlanguage: [en]\n---\n# A card\n".to_vec());
    let local = world.0.path().join("llama31_gqa");
    for (name, content) in files.iter().filter(|(name, _)| !name.contains('/')) {
        std::fs::create_dir_all(&local).unwrap();
        std::fs::write(local.join(name), content).unwrap();
    }
    let hub = Hub::new(files);
    for (model, out) in [(MODEL, "hub"), ("llama31_gqa", "local")] {
        let output = world.run(&hub.endpoint(), &["quantize", model, "--to", "f16,q8_0", "--out", out], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in ["llama31_gqa-F16.gguf", "llama31_gqa-Q8_0.gguf"] {
        let read = |folder: &str| std::fs::read(world.0.path().join(folder).join(name)).unwrap();
        assert_eq!(read("hub"), read("local"), "{name}");
    }
    let read = std::fs::read(world.0.path().join("hub/llama31_gqa-F16.gguf")).unwrap();
    assert!(read.windows(15).any(|bytes| bytes == b"general.license"), "the card is read");
}

#[test]
fn only_the_shards_that_the_index_lists_are_fetched() {
    let world = World::new();
    let mut files = repository();
    let weights = files.remove(WEIGHTS).unwrap();
    let map: BTreeMap<String, &str> = safetensors::SafeTensors::deserialize(&weights)
        .unwrap()
        .names()
        .iter()
        .map(|n| ((*n).to_owned(), "a.safetensors"))
        .collect();
    files.insert("a.safetensors".to_owned(), weights);
    files.insert("b.safetensors".to_owned(), b"of another model".to_vec());
    files.insert("model.safetensors.index.json".to_owned(), json!({"weight_map": map}).to_string().into_bytes());
    let hub = Hub::new(files.clone());
    assert_eq!(world.tokens(&hub), world.expected());
    let (asked, _) = hub.asked();
    assert_eq!(asked.last().unwrap(), "a.safetensors");
    assert!(!asked.contains(&"b.safetensors".to_owned()), "{asked:?}");

    let world = World::new();
    let index = json!({"weight_map": {"x": "../../../../../evil.safetensors"}}).to_string();
    files.insert("model.safetensors.index.json".to_owned(), index.into_bytes());
    world.refused(&Hub::new(files).endpoint(), MODEL, &[], &["model.safetensors.index.json", "not a plain file name"]);
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    const CUT: usize = 100_000;
    let world = World::new();
    let (files, cuts) = (repository(), AtomicUsize::new(0));
    // The first request for the weights is cut; the first list of files is refused for the moment.
    let busy = AtomicUsize::new(0);
    let hub = Hub::with(files.clone(), move |request, files| {
        if request.path.starts_with("/api/") && busy.fetch_add(1, Ordering::Relaxed) == 0 {
            return Some(Answer::new(503, ""));
        }
        (request.is_for(WEIGHTS) && cuts.fetch_add(1, Ordering::Relaxed) == 0)
            .then(|| Answer::file(request, &files[WEIGHTS]).cut(CUT))
    });
    assert_eq!(world.tokens(&hub), world.expected());
    let offsets: Vec<usize> =
        hub.server.asked.lock().unwrap().iter().filter(|request| request.is_for(WEIGHTS)).map(Request::offset).collect();
    assert_eq!(offsets, [0, CUT]);
    assert_eq!(std::fs::read(world.blob(WEIGHTS, &files[WEIGHTS])).unwrap(), files[WEIGHTS]);
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_again() {
    let world = World::new();
    let (files, tries) = (repository(), AtomicUsize::new(0));
    let hub = Hub::with(files.clone(), move |request, files| {
        let answer = Answer::new(200, files.get(request.file()?)?.clone());
        Some(if request.is_for(WEIGHTS) && tries.fetch_add(1, Ordering::Relaxed) == 0 { answer.cut(5000) } else { answer })
    });
    assert_eq!(world.tokens(&hub), world.expected());
    assert_eq!(std::fs::read(world.blob(WEIGHTS, &files[WEIGHTS])).unwrap(), files[WEIGHTS]);
}

#[test]
fn what_came_before_the_end_is_kept_for_the_next_run() {
    const CUT: usize = 70_000;
    let (world, files) = (World::new(), repository());
    let hub = Hub::with(files.clone(), |request, files| {
        let left = CUT.saturating_sub(request.offset());
        request.is_for(WEIGHTS).then(|| Answer::file(request, &files[WEIGHTS]).cut(left))
    });
    let size = files[WEIGHTS].len().to_string();
    world.refused(&hub.endpoint(), MODEL, &[], &[MODEL, WEIGHTS, "70000", &size, "goes on from there"]);
    let unfinished = world.unfinished(WEIGHTS, &files[WEIGHTS]);
    assert_eq!(std::fs::read(&unfinished).unwrap(), files[WEIGHTS][..CUT]);

    let hub = Hub::new(files.clone());
    assert_eq!(world.tokens(&hub), world.expected());
    let requests = hub.server.asked.lock().unwrap();
    let offsets: Vec<_> = requests.iter().filter_map(|request| Some((request.file()?, request.offset()))).collect();
    assert_eq!(offsets, [(WEIGHTS, CUT)], "the other files were there");
    assert!(!unfinished.exists());
}

#[test]
fn bytes_that_are_not_the_listed_ones_get_no_name() {
    for name in [WEIGHTS, "config.json", "tokenizer.json"] {
        let (world, files) = (World::new(), repository());
        let hub = Hub::with(files.clone(), move |request, files| {
            request.is_for(name).then(|| {
                let mut content = files[name].clone();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                Answer::file(request, &content)
            })
        });
        let hash = world.blob(name, &files[name]).file_name().unwrap().to_str().unwrap().to_owned();
        world.refused(&hub.endpoint(), MODEL, &[], &[name, &hash, "removed"]);
        assert!(!world.blobs().iter().any(|blob| blob.starts_with(&hash)), "{name}");
        assert!(!world.path(&format!("snapshots/{COMMIT}/{name}")).exists(), "{name}");
        assert_eq!(world.tokens(&Hub::new(files)), world.expected(), "{name}");
    }
}

#[test]
fn a_file_of_another_length_is_refused() {
    for more in [false, true] {
        let (world, files) = (World::new(), repository());
        let size = files[WEIGHTS].len();
        let other = if more { size + 7 } else { size - 7 };
        let hub = Hub::with(files.clone(), move |request, _| request.is_for(WEIGHTS).then(|| Answer::new(200, vec![0; other])));
        world.refused(&hub.endpoint(), MODEL, &[], &[WEIGHTS, &size.to_string(), &other.to_string()]);
        assert_eq!(world.blobs().len(), 4, "{:?}", world.blobs());
    }
    // One that says nothing of its length and does not end.
    let (world, files) = (World::new(), repository());
    let hub = Hub::with(files.clone(), |request, files| {
        let content = [files.get(request.file()?)?.as_slice(), b"!"].concat();
        request.is_for(WEIGHTS).then(|| Answer::new(200, chunked(&content)).with("transfer-encoding", "chunked"))
    });
    world.refused(&hub.endpoint(), MODEL, &[], &[WEIGHTS, "more than"]);
}

fn chunked(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n0\r\n\r\n"].concat()
}

#[test]
fn gated_and_missing_models_are_explained() {
    let refuse = |status: u16, code: &'static str, message: &'static str| {
        move |_: &Request, _: &Files| {
            let answer = Answer::new(status, "{\"error\": \"no\"}");
            let answer = if code.is_empty() { answer } else { answer.with("x-error-code", code) };
            Some(if message.is_empty() { answer } else { answer.with("x-error-message", message) })
        }
    };
    let token = [("HF_TOKEN", "hf_secret")];
    for (status, code, message, variables, expected) in [
        (401, "GatedRepo", "", &[][..], &["gated", "accept its conditions", "/owner/llama31_gqa", "HF_TOKEN"][..]),
        (403, "GatedRepo", "", &token, &["gated", "no access", "accept its conditions"]),
        (401, "RepoNotFound", "", &[], &["no such model", "private", "HF_TOKEN"]),
        (404, "RepoNotFound", "", &token, &["no such model", "private", "token sees it"]),
        (401, "", "Invalid credentials in Authorization header", &token, &["token is refused"]),
        (404, "RevisionNotFound", "", &[], &["no revision", "main"]),
        (403, "", "Not for you", &[], &["refused", "Not for you"]),
        (418, "", "", &[], &["HTTP 418"]),
    ] {
        let world = World::new();
        let hub = Hub::with(repository(), refuse(status, code, message));
        world.refused(&hub.endpoint(), MODEL, variables, expected);
        assert_eq!(hub.asked().1, 1, "{status} {code}: a refusal is final");
        assert!(!world.0.path().join("hf").exists(), "{status} {code}: nothing is left behind");
        let output = world.run(&hub.endpoint(), &["tokenize", MODEL, "--text", "text.txt"], variables);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    }
    // The list is public and the files are not.
    let hub = Hub::with(repository(), move |request, files| {
        request.file()?;
        refuse(401, "GatedRepo", "")(request, files)
    });
    World::new().refused(&hub.endpoint(), MODEL, &[], &["gated", "accept its conditions"]);
    // Listed and not there.
    let hub = Hub::with(repository(), |request, _| request.is_for(WEIGHTS).then(|| Answer::new(404, "")));
    World::new().refused(&hub.endpoint(), MODEL, &[], &[WEIGHTS, "is not in the repository"]);
}

#[test]
fn what_is_no_model_here_is_refused_before_its_weights() {
    let mut files = repository();
    let config = String::from_utf8(files["config.json"].clone()).unwrap().replace("LlamaForCausalLM", "MambaForCausalLM");
    files.insert("config.json".to_owned(), config.into_bytes());
    let hub = Hub::new(files.clone());
    World::new().refused(&hub.endpoint(), MODEL, &[], &["MambaForCausalLM", "LlamaForCausalLM"]);
    assert!(!hub.asked().0.contains(&WEIGHTS.to_owned()));
    files.remove("config.json");
    World::new().refused(&Hub::new(files).endpoint(), MODEL, &[], &[MODEL, "no config.json"]);
}

#[test]
fn without_a_network_the_cache_is_used() {
    let offline = [("HF_HUB_OFFLINE", "1")];
    let (world, files) = (World::new(), repository());
    let hub = Hub::new(files.clone());
    world.refused(&hub.endpoint(), MODEL, &offline, &[MODEL, "HF_HUB_OFFLINE", "main"]);
    assert_eq!(hub.asked(), (vec![], 0));
    world.tokens(&hub);
    hub.asked();
    assert_eq!(world.tokens_with(&hub.endpoint(), MODEL, &offline), world.expected());
    assert_eq!(hub.asked(), (vec![], 0));
    let endpoint = hub.endpoint();
    drop(hub);
    assert_eq!(world.tokens_with(&endpoint, MODEL, &[]), world.expected(), "nobody answers");

    std::fs::remove_file(world.path(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    world.refused(&endpoint, MODEL, &offline, &[WEIGHTS, "HF_HUB_OFFLINE"]);
    world.refused(&endpoint, MODEL, &[], &[WEIGHTS, "gives no answer", "HF_ENDPOINT"]);
    // The content is still there, so only the link is made again.
    let hub = Hub::new(files);
    assert_eq!(world.tokens(&hub), world.expected());
    assert_eq!(hub.asked(), (vec![], 1));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let world = World::new();
    world.refused("huggingface.co", MODEL, &[], &["HF_ENDPOINT", "https://huggingface.co"]);
    world.refused("http://127.0.0.1:1", "hf:owner", &[], &["hf:owner", "hf:OWNER/NAME"]);
    world.refused("http://127.0.0.1:1", MODEL, &[("SSL_CERT_FILE", "text.txt")], &["SSL_CERT_FILE", "text.txt"]);
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    for name in ["../../../../evil.json", "/etc/evil", "a\\..\\evil"] {
        let world = World::new();
        let mut files = repository();
        files.insert(name.to_owned(), b"{}".to_vec());
        let hub = Hub::new(files);
        world.refused(&hub.endpoint(), MODEL, &[], &[MODEL, "evil", "refused"]);
        assert_eq!(hub.asked().0.len(), 0);
    }
    let hub = Hub::with(repository(), |request, files| {
        let mut list = listing(files);
        list["sha"] = "../../../evil".into();
        request.path.starts_with("/api/").then(|| Answer::new(200, list.to_string()))
    });
    World::new().refused(&hub.endpoint(), MODEL, &[], &["evil", "commit"]);
}

#[test]
fn the_token_is_shown_to_the_hub_and_to_nobody_else() {
    let files = repository();
    // Another host, as far as a port makes one.
    let store =
        Hub::with(files.clone(), |request, files| Some(Answer::file(request, &files[request.path.strip_prefix("/store/")?])));
    let elsewhere = store.endpoint();
    let hub = Hub::with(files, move |request, files| {
        if request.is_for(WEIGHTS) {
            return Some(Answer::new(302, "").with("location", format!("{elsewhere}/store/{WEIGHTS}")));
        }
        if let Some(name) = request.path.strip_prefix("/moved/") {
            return Some(Answer::file(request, &files[name]));
        }
        request.is_for("config.json").then(|| Answer::new(307, "").with("location", "/moved/config.json"))
    });
    let world = World::new();
    assert_eq!(world.tokens_with(&hub.endpoint(), MODEL, &[("HF_TOKEN", "hf_secret")]), world.expected());
    for request in hub.server.asked.lock().unwrap().iter() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"), "{}", request.path);
    }
    let stored = store.server.asked.lock().unwrap();
    assert_eq!(stored.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), [format!("/store/{WEIGHTS}")]);
    assert!(stored.iter().all(|request| request.header("authorization").is_none()));
    assert!(hub.server.asked.lock().unwrap().iter().any(|request| request.path == "/moved/config.json"));
}

#[test]
fn redirects_have_an_end() {
    let hub = Hub::with(repository(), |_, _| Some(Answer::new(302, "").with("location", "/again")));
    World::new().refused(&hub.endpoint(), MODEL, &[], &["redirects more than"]);
    assert!(hub.server.asked.lock().unwrap().len() < 20);
}

#[test]
fn publishers_of_gguf_files_are_served() {
    let world = World::new();
    let model = golden();
    let convert = ["convert", model.to_str().unwrap(), "--to", "f16", "--split-max-tensors", "8", "--out", "made/n-F16.gguf"];
    assert_eq!(world.run("http://unused", &convert, &[]).status.code(), Some(0));
    let mut files = Files::new();
    files.insert("README.md".to_owned(), b"GGUF".to_vec());
    for entry in std::fs::read_dir(world.0.path().join("made")).unwrap() {
        let entry = entry.unwrap();
        files.insert(format!("f16/{}", entry.file_name().to_str().unwrap()), std::fs::read(entry.path()).unwrap());
    }
    let parts: Vec<String> = files.keys().filter(|name| name.ends_with(".gguf")).cloned().collect();
    assert!(parts.len() > 1, "{parts:?}");
    files.insert("n-Q8_0.gguf".to_owned(), b"another".to_vec());
    let hub = Hub::new(files);
    world.refused(&hub.endpoint(), MODEL, &[], &["GGUF files only", &parts[0], "n-Q8_0.gguf", "name one of them"]);
    world.refused(
        &hub.endpoint(),
        &format!("{MODEL}/n-Q4_0.gguf"),
        &[],
        &["n-Q4_0.gguf: is not in the repository", "n-Q8_0.gguf"],
    );
    hub.asked();
    assert_eq!(world.tokens_with(&hub.endpoint(), &format!("{MODEL}/{}", parts[1]), &[]), world.expected());
    assert_eq!(hub.asked(), (parts.clone(), 1));
    world.tokens_with(&hub.endpoint(), &format!("{MODEL}@{COMMIT}/{}", parts[0]), &[]);
    assert_eq!(hub.asked(), (vec![], 0));
}

#[test]
fn two_programs_fetch_a_file_once() {
    let (world, files) = (World::new(), repository());
    let hub = Hub::with(files, |request, files| {
        request.is_for(WEIGHTS).then(|| Answer { drip: Some(64 << 10), ..Answer::file(request, &files[WEIGHTS]) })
    });
    let args = ["tokenize", MODEL, "--text", "text.txt", "--json"];
    let children: Vec<_> = (0..2)
        .map(|_| {
            world
                .command(&hub.endpoint(), &args, &[])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let (mut asked, lists) = hub.asked();
    let all = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!((all, asked.len(), lists), (5, 5, 2));
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_has_come() {
    use std::time::{Duration, Instant};

    let (world, files) = (World::new(), repository());
    let hub = Hub::with(files.clone(), |request, files| {
        request.is_for(WEIGHTS).then(|| Answer { drip: Some(1 << 10), ..Answer::file(request, &files[WEIGHTS]) })
    });
    let args = ["tokenize", MODEL, "--text", "text.txt"];
    let child = world.command(&hub.endpoint(), &args, &[]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let (unfinished, begin) = (world.unfinished(WEIGHTS, &files[WEIGHTS]), Instant::now());
    while std::fs::metadata(&unfinished).map_or(0, |about| about.len()) == 0 {
        assert!(begin.elapsed() < host::PATIENCE, "nothing comes");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("interrupted") && error.contains("goes on from there"), "{error}");
    let kept = std::fs::read(&unfinished).unwrap();
    assert!(!kept.is_empty() && files[WEIGHTS].starts_with(&kept));
    assert_eq!(world.tokens(&Hub::new(files)), world.expected());
}
