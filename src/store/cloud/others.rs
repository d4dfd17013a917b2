//! Google's and Azure's settings and credentials.

use std::env;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{ClientOptions, HeaderMap, HeaderValue, StaticCredentialProvider};

use super::Settings;
use super::client::options;
use crate::error::{Error, Result};

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a cloud's metadata service is there: without it, asking for a role's credentials would only wait.
pub(super) fn answers(url: &str) -> bool {
    let addresses = reqwest::Url::parse(url).ok().and_then(|url| url.socket_addrs(|| None).ok()).unwrap_or_default();
    (0..2).any(|_| addresses.iter().any(|at| TcpStream::connect_timeout(at, Duration::from_secs(1)).is_ok()))
}

/// A builder for Google Cloud Storage, and the options to set its timeouts in.
pub(super) fn google(bucket: &str, settings: &Settings) -> Result<(GoogleCloudStorageBuilder, ClientOptions)> {
    let emulator = variable("STORAGE_EMULATOR_HOST")
        .map(|host| if host.contains("://") { host } else { format!("http://{host}") });
    let endpoint = settings.endpoint.clone().or_else(|| emulator.clone());
    let mut options = options(endpoint.as_deref());
    if settings.requester_pays {
        let project = settings.user_project.clone().or_else(|| variable("GOOGLE_CLOUD_QUOTA_PROJECT"));
        let header = project.and_then(|project| HeaderValue::from_str(&project).ok()).ok_or_else(|| {
            Error::usage(
                "requester_pays on Google needs the project that pays: set user_project in the store's settings",
            )
        })?;
        options = options.with_default_headers(HeaderMap::from_iter([(
            reqwest::header::HeaderName::from_static("x-goog-user-project"),
            header,
        )]));
    }
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    let unsigned = settings.anonymous || (settings.endpoint.is_none() && emulator.is_some());
    if unsigned {
        // For writes the client asks for credentials all the same.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        return Ok((builder.with_skip_signature(true).with_credentials(Arc::new(nobody)), options));
    }
    let named = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY"];
    let named = named.into_iter().chain(["SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_BEARER_TOKEN"]);
    let given = named.into_iter().any(|name| variable(name).is_some());
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folder = variable("CLOUDSDK_CONFIG").map_or_else(|| home.join(".config/gcloud"), PathBuf::from);
    let file = folder.join("application_default_credentials.json");
    if given {
        return Ok((builder, options));
    }
    if file.is_file() {
        return Ok((builder.with_application_credentials(file.to_string_lossy()), options));
    }
    let metadata = variable("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".into());
    if !answers(&format!("http://{metadata}")) {
        return Err(Error::usage(
            "no Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default \
             login`, run where a service account is attached, or say store.anonymous = true for public data",
        ));
    }
    Ok((builder, options))
}

/// A builder for Azure Blob Storage, and the options to set its timeouts in.
pub(super) fn azure(container: &str, settings: &Settings) -> Result<(MicrosoftAzureBuilder, ClientOptions)> {
    let connection = variable("AZURE_STORAGE_CONNECTION_STRING").map(|text| Connection::of(&text)).unwrap_or_default();
    let account = settings
        .account
        .clone()
        .or(connection.account)
        .or_else(|| variable("AZURE_STORAGE_ACCOUNT_NAME"))
        .or_else(|| variable("AZURE_STORAGE_ACCOUNT"));
    let key = connection.key.or_else(|| variable("AZURE_STORAGE_KEY"));
    let endpoint = settings
        .endpoint
        .clone()
        .or(connection.endpoint)
        .or_else(|| variable("AZURE_STORAGE_ENDPOINT"))
        .or_else(|| variable("AZURE_ENDPOINT"));
    let emulator = connection.emulator || variable("AZURE_STORAGE_USE_EMULATOR").is_some_and(|v| v == "true");
    let options = options(endpoint.as_deref());
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    if let Some(account) = &account {
        builder = builder.with_account(account);
    }
    if let Some(key) = &key {
        builder = builder.with_access_key(key);
    }
    if let Some(sas) = &connection.sas {
        builder = builder.with_config(AzureConfigKey::SasKey, sas);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if emulator {
        return Ok((builder.with_use_emulator(true), options.with_allow_http(true)));
    }
    if account.is_none() {
        return Err(Error::usage(
            "the Azure storage account is not known: set account in the store's settings, AZURE_STORAGE_ACCOUNT or \
             AZURE_STORAGE_CONNECTION_STRING",
        ));
    }
    if settings.anonymous {
        return Ok((builder.with_skip_signature(true), options));
    }
    let found = [
        AzureConfigKey::AccessKey,
        AzureConfigKey::SasKey,
        AzureConfigKey::Token,
        AzureConfigKey::ClientSecret,
        AzureConfigKey::FederatedTokenFile,
        AzureConfigKey::UseAzureCli,
        AzureConfigKey::MsiEndpoint,
    ];
    let given = found.iter().any(|key| builder.get_config_value(key).is_some_and(|value| value != "false"));
    if given || answers("http://169.254.169.254") {
        return Ok((builder, options));
    }
    // What `az login` left is the last that Azure's own tools try, too.
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    if variable("AZURE_CONFIG_DIR").map_or_else(|| home.join(".azure"), PathBuf::from).is_dir() {
        return Ok((builder.with_use_azure_cli(true), options));
    }
    Err(Error::usage(
        "no Azure credentials were found: set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or \
         AZURE_STORAGE_CONNECTION_STRING, run `az login`, run where an identity is attached, or say store.anonymous = true \
         for public data",
    ))
}

/// What a connection string holds.
#[derive(Debug, Default, PartialEq)]
struct Connection {
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    endpoint: Option<String>,
    emulator: bool,
}

impl Connection {
    fn of(text: &str) -> Self {
        let value = |wanted: &str| {
            text.split(';')
                .filter_map(|part| part.split_once('='))
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim().to_string())
        };
        let account = value("AccountName");
        let endpoint = value("BlobEndpoint").or_else(|| {
            let suffix = value("EndpointSuffix")?;
            let protocol = value("DefaultEndpointsProtocol").unwrap_or_else(|| "https".into());
            Some(format!("{protocol}://{}.blob.{suffix}", account.as_deref()?))
        });
        Connection {
            key: value("AccountKey"),
            sas: value("SharedAccessSignature"),
            emulator: value("UseDevelopmentStorage").is_some_and(|v| v.eq_ignore_ascii_case("true")),
            endpoint: endpoint.map(|e| e.trim_end_matches('/').to_string()),
            account,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_understood() {
        let text = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k==;EndpointSuffix=core.windows.net";
        let connection = Connection::of(text);
        assert_eq!(connection.account.as_deref(), Some("a"));
        assert_eq!(connection.key.as_deref(), Some("k=="));
        assert_eq!(connection.endpoint.as_deref(), Some("https://a.blob.core.windows.net"));
        let sas = Connection::of("BlobEndpoint=http://127.0.0.1:1/a/;SharedAccessSignature=sv=1&sig=x");
        assert_eq!((sas.endpoint.as_deref(), sas.sas.as_deref()), (Some("http://127.0.0.1:1/a"), Some("sv=1&sig=x")));
        assert!(Connection::of("UseDevelopmentStorage=true").emulator);
    }

    #[test]
    fn a_listener_answers_and_a_closed_port_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        assert!(answers(&url));
        // Nothing listens at tcpmux; one that was just closed may be another test's by now.
        assert!(!answers("http://127.0.0.1:1") && !answers("no url"));
    }
}
