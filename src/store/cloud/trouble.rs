//! What an object store's error means, and how it is told: by the store's own code and message, without addresses that
//! may be signed.

use std::error::Error as _;
use std::fmt::Write;

use object_store::client::{HttpError, HttpErrorKind};

use crate::error::Error;

/// What an object store's error means for who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such object.
    Missing,
    /// These credentials, or none, may not do that with this object.
    Forbidden,
    /// The object is another one than the condition says.
    Changed,
    /// Something has that name already.
    Exists,
    /// The store was busy or failed, and still does after all tries.
    Passing,
    /// The store could not be reached, in all tries.
    Away,
    /// There is no such bucket or container.
    NoBucket,
    /// How the store is used is wrong, whatever the object: region, credentials, this machine's clock.
    Settings,
    /// Anything else: trying again does not help.
    Lasting,
}

/// Codes that are about the credentials, not about the object.
const CREDENTIALS: [&str; 7] = [
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestExpired",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "InvalidToken",
];

impl Trouble {
    /// What `error` means.
    pub fn of(error: &object_store::Error) -> Trouble {
        use object_store::Error as E;
        let text = error.to_string();
        let code = code(&text);
        match code {
            Some(code) if BUCKET.contains(&code) => return Trouble::NoBucket,
            Some(code) if CREDENTIALS.contains(&code) || code == CLOCK => return Trouble::Settings,
            _ => {}
        }
        match error {
            E::NotFound { .. } => Trouble::Missing,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Trouble::Forbidden,
            E::Precondition { .. } | E::NotModified { .. } => Trouble::Changed,
            E::AlreadyExists { .. } => Trouble::Exists,
            E::Generic { .. } => match status(&text) {
                Some(404) => Trouble::Missing,
                Some(401 | 403) => Trouble::Forbidden,
                Some(408 | 429 | 500..) => Trouble::Passing,
                Some(300..=399) => Trouble::Settings,
                Some(_) => Trouble::Lasting,
                // A store that says so in a success.
                None if text.contains("Server returned error response") => Trouble::Passing,
                None if transport(error).is_some() => Trouble::Away,
                // Credentials that could not be had, and the like.
                None => Trouble::Settings,
            },
            _ => Trouble::Lasting,
        }
    }

    fn remedy(self, code: Option<&str>) -> &'static str {
        match (self, code) {
            (Trouble::NoBucket, _) => "there is no such bucket: check its name, the account and the endpoint",
            (_, Some("ExpiredToken" | "TokenRefreshRequired" | "RequestExpired")) => {
                "the credentials are no longer valid: get new ones and run the same command again, finished tasks are kept"
            }
            (_, Some(CLOCK)) => "this machine's clock is wrong: set it",
            (_, Some(code)) if CREDENTIALS.contains(&code) => {
                "the store does not know these credentials: check the keys, the profile and the endpoint"
            }
            (_, Some("InvalidObjectState")) => "it is archived: restore it first",
            (Trouble::Missing, _) => "it is not there (any more): check the name and that nothing else cleans it up",
            (Trouble::Forbidden, _) => {
                "access is denied: give these credentials the right to it (or set anonymous for public data)"
            }
            (Trouble::Changed, _) => "it was changed by someone else meanwhile",
            (Trouble::Exists, _) => "something else has that name: move it away or choose another output",
            (Trouble::Passing | Trouble::Away, _) => {
                "the store stayed busy or away: check the network and the endpoint, then run the same command again, \
                 finished tasks are kept"
            }
            (Trouble::Settings | Trouble::Lasting, _) => {
                "check the store's settings (endpoint, region, account) and the credentials"
            }
        }
    }
}

/// Codes of a bucket or container that is not there.
const BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// The code for a clock that is off.
const CLOCK: &str = "RequestTimeTooSkewed";

/// The key in an answer that the client cannot hold, if that is what `error` is about.
pub(super) fn unaddressed(error: &object_store::Error) -> Option<&str> {
    use object_store::path::Error as E;
    match error {
        object_store::Error::InvalidPath { source: E::EmptySegment { path } | E::BadSegment { path, .. } } => {
            Some(path)
        }
        _ => None,
    }
}

/// The store error for `error`, which happened when trying to `verb` `what`; a usage error where an object's name is the
/// reason.
pub(super) fn failed(verb: &str, what: &str, error: &object_store::Error) -> Error {
    if let Some(key) = unaddressed(error) {
        return Error::usage(format!(
            "could not {verb} {what}: there is {key:?}, and keys with empty parts (//), with . or .. as a part or with \
             control characters cannot be addressed: rename or remove that object"
        ));
    }
    let (said, code) = told(error);
    Error::store(format!("could not {verb} {what}: {said}; {}", Trouble::of(error).remedy(code.as_deref())))
}

/// How the request failed below HTTP, if it did.
fn transport(error: &object_store::Error) -> Option<&HttpError> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(http) = inner.downcast_ref() {
            return Some(http);
        }
        source = inner.source();
    }
    None
}

/// What the store or the network said, in a few words, and the store's code for it.
pub(super) fn told(error: &object_store::Error) -> (String, Option<String>) {
    let text = error.to_string();
    if let Some(status) = status(&text) {
        let code = code(&text);
        let message = between(&text, "<Message>", "</Message>").or_else(|| between(&text, "\"message\": \"", "\""));
        let mut said = format!("HTTP {status}");
        for part in [code, message].into_iter().flatten() {
            // Azure's message has lines with request ids behind its first.
            // Writing into a string cannot fail.
            let _ = write!(said, ", {}", redacted(part.lines().next().unwrap_or_default()));
        }
        return (said, code.map(str::to_string));
    }
    if let Some(http) = transport(error) {
        let kind = match http.kind() {
            HttpErrorKind::Connect => "no connection",
            HttpErrorKind::Timeout => "no answer in time",
            HttpErrorKind::Interrupted | HttpErrorKind::Request => "the connection broke",
            HttpErrorKind::Decode => "the answer could not be understood",
            _ => "the request failed",
        };
        let mut innermost = http.source();
        while let Some(inner) = innermost.and_then(|e| e.source()) {
            innermost = Some(inner);
        }
        let why = innermost.map(|e| format!(" ({})", redacted(&e.to_string()))).unwrap_or_default();
        return (format!("{kind}{why}"), None);
    }
    if text.contains("Received redirect without LOCATION") {
        return ("the bucket is in another region: set region".into(), None);
    }
    (redacted(&text), None)
}

/// The store's own code for what went wrong.
fn code(text: &str) -> Option<&str> {
    between(text, "<Code>", "</Code>").or_else(|| between(text, "\"reason\": \"", "\""))
}

/// The HTTP status that object_store's text tells.
fn status(text: &str) -> Option<u16> {
    let digits = text.split_once("non-2xx status code: ")?.1;
    digits.get(..3)?.parse().ok()
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let rest = text.split_once(before)?.1;
    Some(rest.split_once(behind)?.0.trim())
}

/// `text` with every URL in it cut down to what names the object: no user, no password, no query.
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + "://".len());
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || "\"'()<>,;`".contains(c);
        let (url, more) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
        let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        out.push_str(host.rsplit_once('@').map_or(host, |(_, host)| host).split('?').next().unwrap_or_default());
        out.push_str(path.split('?').next().unwrap_or_default());
        rest = more;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_string().into() }
    }

    #[test]
    fn urls_lose_what_may_be_secret() {
        let cases = [
            ("GET https://u:pw@host/a/b?sig=SECRET in 2s", "GET https://host/a/b in 2s"),
            ("(http://host?X-Amz-Signature=SECRET)", "(http://host)"),
            ("s3://bucket/key", "s3://bucket/key"),
            ("no url, a?b=c", "no url, a?b=c"),
            ("\"https://a/b?c\", https://d/e?f#g", "\"https://a/b\", https://d/e"),
        ];
        for (text, wanted) in cases {
            assert_eq!(redacted(text), wanted);
        }
    }

    #[test]
    fn errors_are_told_by_code_and_message_alone() {
        let error = generic(
            "Error performing GET https://b.example/k?sig=SECRET in 1s - Server returned non-2xx status code: 503 Service \
             Unavailable: <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>\
             <AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>",
        );
        assert_eq!(Trouble::of(&error), Trouble::Passing);
        let told = failed("read", "s3://b/k", &error);
        assert_eq!(told.exit_code(), 74);
        assert!(
            told.message.contains("HTTP 503, SlowDown, Please reduce") && !told.message.contains("SECRET"),
            "{told}"
        );
    }

    #[test]
    fn a_name_that_is_none_is_told() {
        let path = object_store::path::Path::parse("raw/a\tb").unwrap_err();
        let told = failed("list", "s3://b/raw", &path.into());
        assert!(told.exit_code() == 2 && told.message.contains(r#""raw/a\tb""#), "{told}");
    }

    #[test]
    fn what_is_no_use_trying_again_is_told_apart() {
        for (status, trouble) in
            [(400, Trouble::Lasting), (403, Trouble::Forbidden), (404, Trouble::Missing), (429, Trouble::Passing)]
        {
            let error = generic(&format!("Server returned non-2xx status code: {status} X: <Code>Y</Code>"));
            assert_eq!(Trouble::of(&error), trouble, "{status}");
        }
        assert_eq!(Trouble::of(&generic("nothing like HTTP")), Trouble::Settings);
        let expired = generic("Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>");
        assert_eq!(Trouble::of(&expired), Trouble::Settings);
    }
}
