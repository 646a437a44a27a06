//! Requests to the hub: where they go, who is shown the token, which failures may pass, and what a refusal means.
//!
//! Redirects are followed here and not by the HTTP library, because files come from other hosts than the hub, which must not see
//! the token. What is absent: what is asked for, and what becomes of it.

use std::io::Read;
use std::time::{Duration, Instant};

use bitworth_quant::progress::Progress;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::error::{Error, Result};
use super::files::Listing;
use super::name::Target;
use super::settings::Settings;

/// As many as a browser follows, about.
const MAX_REDIRECTS: usize = 10;
/// How long to wait for a connection, for an answer to begin, and for the next bytes of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest list of files that is read: some 100,000 files.
const MAX_LISTING_BYTES: u64 = 32 << 20;
/// How often in a row a request may fail, and how long to wait after the first failure; then twice as long each time.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Pauses that a user is told of.
const NOTICED: Duration = Duration::from_secs(4);
/// The longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How much of a message of the server's is shown.
const MAX_MESSAGE: usize = 200;
/// What the hub says where a repository has no such branch, tag or commit.
const NO_REVISION: &str = "RevisionNotFound";

/// The hub, for one repository.
pub(super) struct Client<'a> {
    agent: Agent,
    settings: &'a Settings,
    pub(super) target: Target,
    pub(super) watch: FetchWatch<'a>,
}

/// Who waits for a model or a data set.
#[derive(Clone, Copy)]
pub struct FetchWatch<'a> {
    /// Is told how many bytes have come.
    pub progress: &'a dyn Progress,
    /// Becomes true when the call should end early.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may work another time.
    Passing { what: String, pause: Option<Duration> },
    /// The server refuses.
    Refused { status: StatusCode, code: String, message: String },
    /// The answer is not one to work with.
    Wrong(String),
    /// All is said.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<bitworth_quant::Error> for Failure {
    fn from(error: bitworth_quant::Error) -> Self {
        Self::Final(error.into())
    }
}

impl<'a> Client<'a> {
    /// # Errors
    /// `SSL_CERT_FILE` cannot be read.
    pub(super) fn new(settings: &'a Settings, target: Target, watch: FetchWatch<'a>) -> Result<Self> {
        let config = Agent::config_builder()
            .user_agent(concat!("bitworth/", env!("CARGO_PKG_VERSION")))
            // Sizes and hashes are those of the files, so they must come as they are.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(ANSWER_TIMEOUT))
            .tls_config(TlsConfig::builder().root_certs(certificates(settings)?).build());
        Ok(Self { agent: Agent::new_with_config(config.build()), settings, target, watch })
    }

    /// The files of the repository's revision.
    pub(super) fn listing(&self, patience: &mut Patience) -> Result<Listing> {
        self.try_listing(patience)?.map_err(|refused| self.explain(refused, None))
    }

    /// The same, or nothing where the repository has no such revision.
    pub(super) fn listing_if_any(&self, patience: &mut Patience) -> Result<Option<Listing>> {
        match self.try_listing(patience)? {
            Ok(listing) => Ok(Some(listing)),
            Err(Failure::Refused { code, .. }) if code == NO_REVISION => Ok(None),
            Err(refused) => Err(self.explain(refused, None)),
        }
    }

    /// The files, or why the hub does not give them.
    fn try_listing(&self, patience: &mut Patience) -> Result<Result<Listing, Failure>> {
        let Target { kind, id, revision, .. } = &self.target;
        let path = format!("/api/{}/{id}/revision/{}?blobs=true", kind.plural(), percent_encode(revision, ""));
        loop {
            let failure = match self.get(&path, 0).and_then(read_listing) {
                Ok(json) => return Listing::parse(&self.target, &json).map(Ok),
                Err(failure) => failure,
            };
            match failure {
                Failure::Passing { what, pause } => {
                    if !patience.wait(pause, self.watch.stop) {
                        self.check_stop()?;
                        let remedy = match what.contains("certificate") {
                            true => "where a proxy opens connections, SSL_CERT_FILE names the certificates to believe",
                            false => "check the network and HF_ENDPOINT",
                        };
                        let what = format!("{} gives no answer: {what}; {remedy}", self.settings.endpoint);
                        return Err(Error::Unreachable { model: self.target.to_string(), what });
                    }
                }
                failure => return Ok(Err(failure)),
            }
        }
    }

    /// The answer to a request for one file from `offset` on.
    pub(super) fn file(&self, commit: &str, path: &str, offset: u64) -> Result<Response<Body>, Failure> {
        let Target { kind, id, .. } = &self.target;
        self.get(&format!("/{}{id}/resolve/{commit}/{}", kind.page(), percent_encode(path, "/")), offset)
    }

    /// # Errors
    /// [`Error::Interrupted`] once the caller asked to stop.
    pub(super) fn check_stop(&self) -> Result<()> {
        match (self.watch.stop)() {
            true => Err(Error::Interrupted { model: self.target.to_string() }),
            false => Ok(()),
        }
    }

    /// Asks for `path` of the endpoint, follows redirects, and sorts the answers: only one with status 200 or 206 is given back.
    fn get(&self, path: &str, offset: u64) -> Result<Response<Body>, Failure> {
        let mut url = format!("{}{path}", self.settings.endpoint);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(token) = self.settings.token().filter(|_| is_same_origin(&url, &self.settings.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if offset > 0 {
                request = request.header(header::RANGE, format!("bytes={offset}-"));
            }
            let response = request.call().map_err(|e| transport(&e))?;
            let status = response.status();
            if !status.is_redirection() {
                return check_status(response);
            }
            let target = text(response.headers(), header::LOCATION.as_str()).unwrap_or_default();
            url = follow(&url, target)?;
        }
        Err(Failure::Wrong(format!("the hub redirects more than {MAX_REDIRECTS} times; check HF_ENDPOINT")))
    }

    /// What a failure means to whoever asked for the repository, or for `file` of it.
    pub(super) fn explain(&self, failure: Failure, file: Option<&str>) -> Error {
        let what = match failure {
            Failure::Final(error) => return error,
            Failure::Wrong(what) | Failure::Passing { what, .. } => what,
            Failure::Refused { status, code, message } => self.explain_refusal(status, &code, &message, file.is_some()),
        };
        let model = self.target.to_string();
        match file {
            Some(file) => Error::File { model, file: file.to_owned(), what },
            None => Error::Model { model, what },
        }
    }

    fn explain_refusal(&self, status: StatusCode, code: &str, message: &str, is_file: bool) -> String {
        let Target { kind, id, revision, .. } = &self.target;
        let page = format!("{}/{}{id}", self.settings.endpoint, kind.page());
        let word = kind.word();
        let has_token = self.settings.token().is_some();
        let number = status.as_u16();
        match (number, code) {
            (_, "GatedRepo") if has_token => {
                format!(
                    "the {word} is gated, and the account of the token has no access: accept its conditions at {page}, and \
                         see that the token may read gated repositories"
                )
            }
            (_, "GatedRepo") => {
                format!("the {word} is gated: accept its conditions at {page}, then set HF_TOKEN to a token of your account")
            }
            (_, NO_REVISION) => format!("has no revision {revision:?}; {page}/refs lists them"),
            (_, "EntryNotFound") => "is not in the repository".to_owned(),
            (404, "") if is_file => "is not in the repository".to_owned(),
            (401, _) if message.contains("Invalid credentials") || (has_token && code.is_empty()) => {
                "the token is refused; set HF_TOKEN to a valid one, or unset it".to_owned()
            }
            (401 | 404, _) => {
                let token =
                    if has_token { "the account of the token sees it" } else { "HF_TOKEN is set to a token that sees it" };
                format!("there is no such {word}, or it is private: check the name at {page}, and that {token} (HTTP {number})")
            }
            (403, _) => format!("access is refused: {}; see {page}", if message.is_empty() { "HTTP 403" } else { message }),
            _ if message.is_empty() => format!("the hub answers HTTP {number}"),
            _ => format!("the hub answers HTTP {number}: {message}"),
        }
    }
}

/// How often a failure that may pass is met by another try.
pub(super) struct Patience {
    tries: u32,
    left: u32,
}

impl Patience {
    /// Five tries in a row.
    pub(super) fn new() -> Self {
        Self { tries: TRIES, left: TRIES }
    }

    /// One try: there is something else to go on with.
    pub(super) fn short() -> Self {
        Self { tries: 1, left: 1 }
    }

    /// Something came.
    pub(super) fn renew(&mut self) {
        self.left = self.tries;
    }

    /// After a failure: waits, as long as the server asked for or longer each time, and says whether to try again.
    pub(super) fn wait(&mut self, asked: Option<Duration>, stopped: &dyn Fn() -> bool) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return false;
        }
        let pause = FIRST_PAUSE * 2u32.pow(self.tries - self.left - 1);
        let pause = asked.unwrap_or(pause).clamp(pause, MAX_PAUSE);
        if pause >= NOTICED {
            tracing::warn!("the hub asks for patience: trying again in {} s", pause.as_secs());
        }
        let end = Instant::now() + pause;
        while !stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        false
    }
}

/// The certificates to believe: the built-in ones, or those of `SSL_CERT_FILE` (where a company's proxy opens all
/// connections, only its own certificate will do).
fn certificates(settings: &Settings) -> Result<RootCerts> {
    let Some(path) = &settings.certificates else { return Ok(RootCerts::WebPki) };
    let pem = std::fs::read(path).map_err(|e| bitworth_quant::Error::io(path, e))?;
    let found: Vec<_> =
        parse_pem(&pem).filter_map(|item| if let Ok(PemItem::Certificate(found)) = item { Some(found) } else { None }).collect();
    match found.is_empty() {
        true => Err(Error::Setting {
            name: "SSL_CERT_FILE",
            what: format!("{} holds no certificates; name a PEM file, or unset it", path.display()),
        }),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}

fn read_listing(mut response: Response<Body>) -> Result<Vec<u8>, Failure> {
    let mut json = Vec::new();
    let mut body = response.body_mut().as_reader().take(MAX_LISTING_BYTES + 1);
    body.read_to_end(&mut json).map_err(|e| Failure::Passing { what: e.to_string(), pause: None })?;
    match json.len() as u64 > MAX_LISTING_BYTES {
        true => Err(Failure::Wrong("the hub's list of files has no end; check HF_ENDPOINT".to_owned())),
        false => Ok(json),
    }
}

fn check_status(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let (status, headers) = (response.status(), response.headers());
    if matches!(status.as_u16(), 200 | 206) {
        return Ok(response);
    }
    if matches!(status.as_u16(), 408 | 429) || status.is_server_error() {
        let pause =
            text(headers, header::RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let what = match status.as_u16() {
            429 => "too many requests (HTTP 429); wait a while, or set HF_TOKEN for a higher limit".to_owned(),
            number => format!("HTTP {number}"),
        };
        return Err(Failure::Passing { what, pause });
    }
    let said = |name: &str| -> String {
        let printable = text(headers, name).unwrap_or_default().chars().filter(|c| !c.is_control());
        printable.take(MAX_MESSAGE).collect()
    };
    Err(Failure::Refused { status, code: said("x-error-code"), message: said("x-error-message") })
}

/// A connection that did not come about or broke.
fn transport(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Failure::Wrong(format!("not an address to ask: {error}; check HF_ENDPOINT"))
        }
        _ => Failure::Passing { what: error.to_string(), pause: None },
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| host + at);
    &url[..end]
}

fn is_same_origin(a: &str, b: &str) -> bool {
    origin(a).eq_ignore_ascii_case(origin(b))
}

/// The address that a redirect from `url` to `target` means. Never from an encrypted connection to an open one.
fn follow(url: &str, target: &str) -> Result<String, Failure> {
    let encrypted = url.starts_with("https:");
    let scheme = |text: &str, scheme: &str| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let next = if scheme(target, "https://") || scheme(target, "http://") {
        target.to_owned()
    } else if target.starts_with("//") {
        format!("{}:{target}", if encrypted { "https" } else { "http" })
    } else if target.starts_with('/') {
        // To the new name of a repository: as `huggingface_hub`, the question stays the same.
        let query = url.find('?').map(|at| &url[at..]).filter(|_| !target.contains('?')).unwrap_or_default();
        format!("{}{target}{query}", origin(url))
    } else {
        let what = format!("the hub redirects to {target:?}, which is no address; check HF_ENDPOINT");
        return Err(Failure::Wrong(what));
    };
    match encrypted && !scheme(&next, "https://") {
        true => Err(Failure::Wrong(format!("the hub redirects to the unencrypted {}; refused", origin(&next)))),
        false => Ok(next),
    }
}

/// Writes a text as part of a path: everything but letters, digits, `-._~` and what is in `kept` as `%XX`.
fn percent_encode(text: &str, kept: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match plain(c) {
            true => out.push(c),
            false => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out += &format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_encrypted_and_are_addresses() {
        let from = "https://hub.example/o/n?x";
        assert_eq!(follow(from, "/a/b").unwrap(), "https://hub.example/a/b?x");
        assert_eq!(follow(from, "/a/b?y").unwrap(), "https://hub.example/a/b?y");
        assert_eq!(follow(from, "//cdn.example/b").unwrap(), "https://cdn.example/b");
        assert_eq!(follow(from, "https://cdn.example/b").unwrap(), "https://cdn.example/b");
        assert_eq!(follow("http://hub.example/", "http://cdn.example/b").unwrap(), "http://cdn.example/b");
        for target in ["http://hub.example/a", "HTTP://x/", "ftp://x/", "file:///etc/passwd", "", "a/b"] {
            assert!(follow(from, target).is_err(), "{target}");
        }
    }

    #[test]
    fn only_the_same_scheme_host_and_port_is_the_same_place() {
        let endpoint = "https://hub.example/prefix";
        for url in ["https://hub.example", "https://HUB.example/x", "https://hub.example?x"] {
            assert!(is_same_origin(url, endpoint), "{url}");
        }
        for url in [
            "http://hub.example/x",
            "https://hub.example:444/x",
            "https://hub.example.evil/x",
            "https://hub.example@evil/x",
            "https://evil/https://hub.example/",
        ] {
            assert!(!is_same_origin(url, endpoint), "{url}");
        }
    }

    #[test]
    fn odd_characters_are_encoded() {
        assert_eq!(percent_encode("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(percent_encode("a b/c?#%é.gguf", "/"), "a%20b/c%3F%23%25%C3%A9.gguf");
    }

    #[test]
    fn patience_ends_and_can_be_cut_short() {
        let mut patience = Patience { tries: 3, left: 3 };
        assert!(patience.wait(None, &|| false) && patience.wait(None, &|| false) && !patience.wait(None, &|| false));
        patience.renew();
        assert!(patience.wait(None, &|| false));
        assert!(!Patience::new().wait(Some(Duration::from_secs(50)), &|| true));
        assert!(!Patience::short().wait(None, &|| false));
    }
}
