//! Profiles in ~/.aws/config and ~/.aws/credentials: keys, `credential_process`, web identity, region, endpoint. Single
//! sign-on and assumed roles go through the AWS command line, which knows how to renew them.

use std::collections::HashMap;
use std::env;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::{CredentialProvider, StaticCredentialProvider};
use serde::Deserialize;

use crate::error::{Error, Result};

/// What a profile says.
#[derive(Default)]
pub(super) struct Profile {
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub credentials: Credentials,
}

/// Where a profile has its credentials from.
#[derive(Default)]
pub(super) enum Credentials {
    /// It names none.
    #[default]
    None,
    /// Its own keys, or those that a process gives.
    Keys(AwsCredentialProvider),
    WebIdentity {
        token_file: String,
        role: String,
        session: String,
    },
}

impl Profile {
    /// The profile `name`, or the one that variables name.
    ///
    /// # Errors
    /// A usage error for a profile that was named and is in neither file.
    pub fn load(name: Option<&str>) -> Result<Profile> {
        let variable = |name: &str| env::var(name).ok().filter(|v| !v.is_empty());
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".aws");
        let path = |name: &str, file: &str| variable(name).map_or_else(|| home.join(file), PathBuf::from);
        let named =
            name.map(String::from).or_else(|| variable("AWS_PROFILE")).or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let config = read(&path("AWS_CONFIG_FILE", "config"))?;
        let secrets = read(&path("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        Self::of(&config, &secrets, named.as_deref())
    }

    fn of(config: &str, secrets: &str, named: Option<&str>) -> Result<Profile> {
        let name = named.unwrap_or("default");
        let (config, mut secrets) = (sections(config), sections(secrets));
        let mut values = HashMap::new();
        let section = config.get(&format!("profile {name}")).or_else(|| config.get(name).filter(|_| name == "default"));
        let known = section.is_some() || secrets.contains_key(name);
        values.extend(section.cloned().unwrap_or_default());
        values.extend(secrets.remove(name).unwrap_or_default());
        if !known {
            return match named {
                Some(name) => Err(Error::usage(format!(
                    "the AWS profile {name} is in neither ~/.aws/config nor ~/.aws/credentials (AWS_CONFIG_FILE, \
                     AWS_SHARED_CREDENTIALS_FILE): check its name"
                ))),
                None => Ok(Profile::default()),
            };
        }
        let services = values.get("services").and_then(|name| config.get(&format!("services {name}")));
        let endpoint =
            services.and_then(|section| section.get("s3.endpoint_url")).or_else(|| values.get("endpoint_url"));
        Ok(Profile {
            region: values.get("region").cloned(),
            endpoint: endpoint.cloned(),
            credentials: credentials(name, &values)?,
        })
    }
}

fn credentials(name: &str, values: &HashMap<String, String>) -> Result<Credentials> {
    let value = |key: &str| values.get(key).filter(|v| !v.is_empty()).cloned();
    if let (Some(token_file), Some(role)) = (value("web_identity_token_file"), value("role_arn")) {
        let session = value("role_session_name").unwrap_or_else(|| "framemill".into());
        return Ok(Credentials::WebIdentity { token_file, role, session });
    }
    let by_tool = value("role_arn").is_some() || value("sso_session").is_some() || value("sso_start_url").is_some();
    let command = value("credential_process").filter(|_| !by_tool);
    if let Some(command) = command.or_else(|| by_tool.then(|| exporting(name))) {
        return Ok(Credentials::Keys(Arc::new(Process { command, last: Arc::default() })));
    }
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(key_id), Some(secret_key)) => {
            let credential = AwsCredential { key_id, secret_key, token: value("aws_session_token") };
            Ok(Credentials::Keys(Arc::new(StaticCredentialProvider::new(credential))))
        }
        (None, None) => Ok(Credentials::None),
        _ => Err(Error::usage(format!(
            "the AWS profile {name} has only one of aws_access_key_id and aws_secret_access_key: it takes both"
        ))),
    }
}

/// The command with which AWS's own tool gives what only it can get.
fn exporting(profile: &str) -> String {
    format!("aws configure export-credentials --format process --profile '{}'", profile.replace('\'', "'\\''"))
}

/// The text of a file that need not be there.
fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|e| Error::usage(format!("{} cannot be read: {e}", path.display()))),
    }
}

/// `[section]` and `key = value`; indented keys belong to the one before them, as `key.nested`.
fn sections(text: &str) -> HashMap<String, HashMap<String, String>> {
    let mut out: HashMap<String, HashMap<String, String>> = HashMap::new();
    let (mut section, mut above) = (String::new(), String::new());
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "");
            out.entry(section.clone()).or_default();
        } else if let Some((key, value)) = bare.split_once('=') {
            let key = key.trim().to_ascii_lowercase();
            // A comment behind a value needs a space before it: secrets may hold the sign.
            let value = value.split(" #").next().unwrap_or_default().trim().to_string();
            let nested = line.starts_with([' ', '\t']) && !above.is_empty();
            let full = if nested { format!("{above}.{key}") } else { key.clone() };
            if !nested {
                above = if value.is_empty() { key } else { String::new() };
            }
            out.entry(section.clone()).or_default().insert(full, value);
        }
    }
    out
}

/// Keys that a command prints, asked for again before they expire.
#[derive(Clone)]
struct Process {
    command: String,
    last: Arc<Mutex<Option<Lease>>>,
}

/// Keys, and when they expire.
type Lease = (Arc<AwsCredential>, Option<SystemTime>);

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("credential_process")
    }
}

/// What a `credential_process` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Keys that expire sooner than this are renewed: requests on their way must not meet the end.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

impl Process {
    fn get(&self) -> Result<Arc<AwsCredential>, String> {
        // Held while the command runs: others want the same keys.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((credential, expires)) = &*last
            && expires.is_none_or(|at| at > SystemTime::now() + RENEW_BEFORE)
        {
            return Ok(credential.clone());
        }
        let (credential, expires) = self.run()?;
        let credential = Arc::new(credential);
        *last = Some((credential.clone(), expires));
        Ok(credential)
    }

    /// What the command prints is secret, so it is never in an error; what it says on standard error is the user's.
    fn run(&self) -> Result<(AwsCredential, Option<SystemTime>), String> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let tool = self.command.split_whitespace().next().unwrap_or_default();
        let output = command.output().map_err(|e| format!("the credential_process {tool} could not start: {e}"))?;
        if !output.status.success() {
            return Err(format!(
                "the credential_process {tool} failed ({}): run it by hand, or log in again",
                output.status
            ));
        }
        let printed: Printed = serde_json::from_slice(&output.stdout).map_err(|_| {
            format!("the credential_process {tool} did not print AccessKeyId and SecretAccessKey as JSON")
        })?;
        let expires = match &printed.expiration {
            None => None,
            Some(text) => Some(instant(text).ok_or_else(|| {
                format!("the credential_process {tool} printed an Expiration that is no time: {text}")
            })?),
        };
        let credential = AwsCredential {
            key_id: printed.access_key_id,
            secret_key: printed.secret_access_key,
            token: printed.session_token,
        };
        Ok((credential, expires))
    }
}

fn instant(text: &str) -> Option<SystemTime> {
    let nanos = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text).ok()?;
    Some(UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).ok()?))
}

impl CredentialProvider for Process {
    type Credential = AwsCredential;

    fn get_credential<'a, 'b>(
        &'a self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let process = self.clone();
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || process.get()).await;
            let failed = |text: String| object_store::Error::Generic { store: "S3", source: text.into() };
            asked.map_err(|e| failed(e.to_string()))?.map_err(failed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cloud::wait;

    const CONFIG: &str = "[default]\nregion = eu-west-1\n\n[profile lab]\nregion=us-west-2 # near\nservices = lab\n\
        credential_process = printf '{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S#\",\"SessionToken\":\"T\"}'\n\
        [services lab]\nother =\n  endpoint_url = http://other\ns3 =\n  endpoint_url = http://lab:9000\n\
        [profile pod]\nrole_arn = arn:aws:iam::1:role/x\nweb_identity_token_file = /t\n[profile sso]\nsso_session = x\n";
    const SECRETS: &str = "# keys\n[default]\naws_access_key_id = AK\naws_secret_access_key = s/e+c=r#et\n[half]\naws_access_key_id = A\n";

    fn profile(name: Option<&str>) -> Result<Profile> {
        Profile::of(CONFIG, SECRETS, name)
    }

    fn keys(profile: &Profile) -> (String, String, Option<String>) {
        let Credentials::Keys(provider) = &profile.credentials else { panic!("no keys") };
        let credential = wait(provider.get_credential()).unwrap();
        (credential.key_id.clone(), credential.secret_key.clone(), credential.token.clone())
    }

    #[test]
    fn keys_come_from_either_file() {
        let default = profile(None).unwrap();
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        assert_eq!(keys(&default), ("AK".into(), "s/e+c=r#et".into(), None));
        assert!(matches!(Profile::of("", "", None).unwrap().credentials, Credentials::None));
    }

    #[test]
    fn processes_and_services_are_understood() {
        let lab = profile(Some("lab")).unwrap();
        assert_eq!((lab.region.as_deref(), lab.endpoint.as_deref()), (Some("us-west-2"), Some("http://lab:9000")));
        assert_eq!(keys(&lab), ("A".into(), "S#".into(), Some("T".into())));
        assert!(matches!(profile(Some("pod")).unwrap().credentials, Credentials::WebIdentity { .. }));
        assert!(matches!(profile(Some("sso")).unwrap().credentials, Credentials::Keys(_)));
    }

    #[test]
    fn what_is_missing_is_said() {
        for name in ["none", "half"] {
            let error = profile(Some(name)).err().unwrap();
            assert!(error.exit_code() == 2 && error.message.contains(name), "{error}");
        }
    }

    #[test]
    fn processes_are_asked_again_before_their_keys_expire_and_their_output_is_secret() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let process = |expiration: &str| Process {
            command: format!(
                "echo x >> {}; printf '{{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"{expiration}}}'",
                count.display()
            ),
            last: Arc::default(),
        };
        for (expiration, runs) in [
            ("", 1),
            (",\"Expiration\":\"2199-01-01T00:00:00Z\"", 1),
            (",\"Expiration\":\"2001-01-01T00:00:00+00:00\"", 3),
        ] {
            let _ = std::fs::remove_file(&count);
            let process = process(expiration);
            (0..3).for_each(|_| assert_eq!(process.get().unwrap().key_id, "A"));
            assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), runs, "{expiration}");
        }
        let process = Process { command: "echo SECRET; exit 3".into(), last: Arc::default() };
        let error = process.get().unwrap_err();
        assert!(error.contains("exit status: 3") && !error.contains("SECRET"), "{error}");
        let process = Process { command: "echo SECRET".into(), last: Arc::default() };
        assert!(!process.get().unwrap_err().contains("SECRET"));
    }
}
