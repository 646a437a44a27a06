//! The environment variables that Hugging Face's tools share, read in one place: where the hub is, where the cache, with which
//! token, and whether there is a network at all. The names and what counts before what are those of `huggingface_hub`.
//!
//! What is absent: proxies, which the HTTP client reads itself (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// What the environment says.
pub struct Settings {
    /// Where the hub is, without a slash at the end.
    pub(super) endpoint: String,
    /// The folder with one folder a repository.
    pub(super) cache: PathBuf,
    /// Whether to do without the network.
    pub(super) offline: bool,
    /// Certificates to believe instead of the built-in ones, a PEM file.
    pub(super) certificates: Option<PathBuf>,
    token: Option<String>,
}

impl Settings {
    /// What this process's environment says.
    ///
    /// # Errors
    /// [`Error::Setting`] where a variable cannot be followed.
    pub fn from_env() -> Result<Self> {
        Self::read(&|name| std::env::var_os(name))
    }

    /// What `variable` says, a variable of an environment.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        // Empty is as good as not there.
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let user = get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| get(name).map(|value| expand(PathBuf::from(value), user.as_deref()));
        let is_true = |name: &str| get(name).is_some_and(|value| is_yes(&value.to_string_lossy()));

        let dot_cache = || path("XDG_CACHE_HOME").or_else(|| Some(user.as_ref()?.join(".cache")));
        let home = path("HF_HOME").or_else(|| Some(dot_cache()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or_else(|| Error::Setting {
            name: "HF_HOME",
            what: "there is no home folder to keep models in; set it to a folder".to_owned(),
        })?;
        Ok(Self {
            endpoint: endpoint(get("HF_ENDPOINT"))?,
            cache,
            offline: is_true("HF_HUB_OFFLINE") || get("HF_HUB_OFFLINE").is_none() && is_true("TRANSFORMERS_OFFLINE"),
            certificates: path("SSL_CERT_FILE"),
            token: match is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
                true => None,
                false => token(&get, path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token"))).as_deref())?,
            },
        })
    }

    /// The token to show to the endpoint, and to nobody else.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

fn is_yes(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// `~` at the beginning is the user's folder.
fn expand(path: PathBuf, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

fn endpoint(value: Option<OsString>) -> Result<String> {
    let Some(value) = value else { return Ok(DEFAULT_ENDPOINT.to_owned()) };
    let value = value.to_string_lossy().trim_end_matches('/').to_owned();
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#' | '\\');
    match host.filter(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(odd)) {
        Some(_) => Ok(value),
        None => Err(Error::Setting {
            name: "HF_ENDPOINT",
            what: format!("{value:?} is no address of a hub; write one like {DEFAULT_ENDPOINT}, or unset it"),
        }),
    }
}

/// From the environment, else from the file that logging in leaves.
fn token(get: &dyn Fn(&str) -> Option<OsString>, file: Option<&Path>) -> Result<Option<String>> {
    let check = |text: String, name: &'static str| {
        let text = text.trim().to_owned();
        // Anything else could not be sent. What it is stays unsaid, because it may be a token with a slip of the hand.
        match text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Some(text).filter(|text| !text.is_empty())),
            false => Err(Error::Setting { name, what: "holds characters that no token has; set it anew or unset it".to_owned() }),
        }
    };
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(found) = get(name).map(|value| check(value.to_string_lossy().into_owned(), name)).transpose()?.flatten() {
            return Ok(Some(found));
        }
    }
    match file.and_then(|file| std::fs::read_to_string(file).ok()) {
        Some(text) => check(text, "HF_TOKEN_PATH"),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn check_cache(variables: &[(&str, &str)], expected: &str) {
        assert_eq!(read(variables).unwrap().cache, Path::new(expected), "{variables:?}");
    }

    #[test]
    fn the_cache_is_where_other_tools_have_theirs() {
        check_cache(&[("HOME", "/u")], "/u/.cache/huggingface/hub");
        check_cache(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub");
        check_cache(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/h")], "/u/h/hub");
        check_cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old");
        check_cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")], "/c");
        check_cache(&[("HOME", "/u"), ("HF_HOME", "")], "/u/.cache/huggingface/hub");
        assert!(read(&[]).err().unwrap().to_string().contains("HF_HOME"));
    }

    #[test]
    fn an_endpoint_is_an_address() {
        let endpoint = |value| read(&[("HOME", "/u"), ("HF_ENDPOINT", value)]).map(|s| s.endpoint);
        assert_eq!(endpoint("").unwrap(), DEFAULT_ENDPOINT);
        assert_eq!(endpoint("http://127.0.0.1:80//").unwrap(), "http://127.0.0.1:80");
        for value in ["huggingface.co", "ftp://x", "https://", "https:///x", "https://a b", "https://user@x", "https://x?y"] {
            let error = endpoint(value).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT") && error.contains("https://huggingface.co"), "{value}: {error}");
        }
    }

    #[test]
    fn a_token_comes_from_the_environment_or_from_its_file() {
        let dir = tempfile::TempDir::new().unwrap();
        let home = dir.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| read(&[&[("HF_HOME", home)], more].concat()).unwrap().token;
        assert_eq!(token(&[]), None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).as_deref(), Some("hf_old"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", " hf_new ")]).as_deref(), Some("hf_new"));
        assert_eq!(token(&[("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let error = read(&[("HF_HOME", home), ("HF_TOKEN", "hf_secret\u{e9}")]).err().unwrap().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn being_offline_is_said_by_either_variable() {
        let offline = |variables: &[(&str, &str)]| read(&[&[("HOME", "/u")], variables].concat()).unwrap().offline;
        assert!(offline(&[("HF_HUB_OFFLINE", "1")]) && offline(&[("TRANSFORMERS_OFFLINE", "true")]));
        assert!(!offline(&[]) && !offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]));
    }
}
