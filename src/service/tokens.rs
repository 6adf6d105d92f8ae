//! Bearer tokens: who may call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Code, Status};

use super::errors::{reason, status};

/// Characters that a token has at least: what is shorter can be guessed.
const SHORTEST: usize = 16;

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Label articles, and ask for models and descriptors.
    Classify,
    /// Reload models and read reports.
    Admin,
}

/// Why a file of tokens is refused. The tokens themselves are never told.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It can't be read.
    #[error("tokens {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no scopes and token.
    #[error("tokens {}, line {line}: {what}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is none in it.
    #[error("tokens {}: no token in it, so nobody could call", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
}

/// A token, as its digest: of equal length for all, so that comparing takes the same time for all.
#[derive(Debug)]
struct Token {
    digest: [u8; 32],
    scopes: Vec<Scope>,
}

/// The tokens of a file, which may be read anew.
#[derive(Debug)]
pub struct Tokens {
    file: PathBuf,
    known: ArcSwap<Vec<Token>>,
}

impl Tokens {
    /// Reads a file of lines `SCOPES TOKEN`, where scopes are `classify`, `admin` or both with a comma between. Blank lines and lines that
    /// begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// [`TokensError`], with the number of the line.
    pub fn read(file: &Path) -> Result<Self, TokensError> {
        Ok(Self { file: file.to_owned(), known: ArcSwap::from_pointee(parse(file)?) })
    }

    /// Reads the file anew.
    ///
    /// # Errors
    ///
    /// [`TokensError`]; the tokens known before stay.
    pub fn reload(&self) -> Result<(), TokensError> {
        self.known.store(Arc::new(parse(&self.file)?));
        Ok(())
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Checks that the headers of a call carry a token of `scope`.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED without a token that is known, PERMISSION_DENIED where it does not reach so far.
    pub fn check(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Status> {
        let given = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let Some(given) = given else {
            let message = "a bearer token is needed: authorization: Bearer TOKEN";
            return Err(status(Code::Unauthenticated, reason::TOKEN_INVALID, message, []));
        };
        let digest: [u8; 32] = Sha256::digest(given).into();
        // All are compared, so that the time tells nothing of which one it is.
        let mut found: Option<Arc<[Scope]>> = None;
        for token in self.known.load().iter() {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(token.scopes.as_slice().into());
            }
        }
        match found {
            None => Err(status(Code::Unauthenticated, reason::TOKEN_INVALID, "the bearer token is not known", [])),
            Some(scopes) if scopes.contains(&scope) => Ok(()),
            Some(_) => {
                let needed = match scope {
                    Scope::Classify => "classify",
                    Scope::Admin => "admin",
                };
                let message = format!("the token lacks the scope {needed}");
                Err(status(Code::PermissionDenied, reason::SCOPE_MISSING, message, [("scope", needed.to_owned())]))
            }
        }
    }
}

/// The token of an authorization header; the scheme is of any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token.trim_ascii())
}

fn parse(file: &Path) -> Result<Vec<Token>, TokensError> {
    let text = std::fs::read_to_string(file).map_err(|source| TokensError::Read { file: file.to_owned(), source })?;
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what| TokensError::Line { file: file.to_owned(), line: at + 1, what };
        let (scopes, token) = line.split_once(char::is_whitespace).ok_or_else(|| wrong("it is not SCOPES TOKEN"))?;
        let token = token.trim_start();
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("a token has at least 16 visible ASCII characters, and no space"));
        }
        let scope = |name| match name {
            "classify" => Ok(Scope::Classify),
            "admin" => Ok(Scope::Admin),
            _ => Err(wrong("a scope is classify or admin")),
        };
        let scopes = scopes.split(',').map(scope).collect::<Result<_, _>>()?;
        tokens.push(Token { digest: Sha256::digest(token.as_bytes()).into(), scopes });
    }
    if tokens.is_empty() {
        return Err(TokensError::Empty { file: file.to_owned() });
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Tokens, TokensError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Tokens::read(file.path())
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn scopes_are_kept_apart() {
        let tokens = tokens("# two\n\nclassify aaaaaaaaaaaaaaaa\nadmin,classify  bbbbbbbbbbbbbbbb\n").unwrap();
        let code = |value: &str, scope| tokens.check(&headers(value), scope).map_err(|status| status.code());
        assert_eq!(code("Bearer aaaaaaaaaaaaaaaa", Scope::Classify), Ok(()));
        assert_eq!(code("bearer aaaaaaaaaaaaaaaa", Scope::Admin), Err(Code::PermissionDenied));
        assert_eq!(code("BEARER bbbbbbbbbbbbbbbb", Scope::Admin), Ok(()));
        assert_eq!(code("Bearer bbbbbbbbbbbbbbbb", Scope::Classify), Ok(()));
        for unknown in
            ["Bearer ", "Bearer aaaaaaaaaaaaaaa", "Bearer aaaaaaaaaaaaaaaaa", "Basic aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa"]
        {
            assert_eq!(code(unknown, Scope::Classify), Err(Code::Unauthenticated), "{unknown}");
        }
        assert_eq!(tokens.check(&HeaderMap::new(), Scope::Classify).unwrap_err().code(), Code::Unauthenticated);
    }

    #[test]
    fn bad_files_are_refused_by_line_and_never_quoted() {
        for (text, expected) in [
            ("", "no token in it"),
            ("# none\n", "no token in it"),
            ("\nclassify\n", "line 2: it is not SCOPES TOKEN"),
            ("classify geheim-geheim\n", "line 1: a token has at least 16"),
            ("classify geheim geheim geheim\n", "line 1: a token has at least 16"),
            ("classify,root geheimgeheimgeheim\n", "line 1: a scope is classify or admin"),
        ] {
            let error = tokens(text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("geheim"), "{error}");
        }
    }
}
