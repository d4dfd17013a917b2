//! S3's settings and credentials, in the order of the AWS tools: the job's profile, variables, web identity, the
//! profile of AWS_PROFILE (or `default`), containers, the instance.

mod profile;

use std::env;
use std::str::FromStr;

use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, S3CopyIfNotExists};

use super::client::options;
use super::{Addressing, Settings, others, runtime};
use crate::error::{Error, Result};
use profile::{Credentials, Profile};

const METADATA: &str = "http://169.254.169.254";

/// A builder that knows everything but its timeouts, and the options to set them in.
pub(super) fn builder(bucket: &str, settings: &Settings) -> Result<(AmazonS3Builder, ClientOptions)> {
    let profile = Profile::load(settings.profile.as_deref())?;
    let variables: Vec<(Key, String)> = variables(settings.profile.is_some());
    let variable = |wanted: Key| variables.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone());
    let endpoint = settings
        .endpoint
        .clone()
        .or_else(|| variable(Key::S3Endpoint))
        .or_else(|| variable(Key::Endpoint))
        .or_else(|| profile.endpoint.clone());
    let options = options(endpoint.as_deref());
    let mut builder = AmazonS3Builder::new();
    for (key, value) in &variables {
        builder = builder.with_config(*key, value);
    }
    builder = builder.with_bucket_name(bucket).with_s3_express(bucket.ends_with("--x-s3"));
    // What S3 has for a copy that never replaces.
    builder = builder.with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
    if settings.requester_pays {
        builder = builder.with_request_payer(true);
    }
    let region = settings
        .region
        .clone()
        .or_else(|| variable(Key::Region))
        .or_else(|| variable(Key::DefaultRegion))
        .or_else(|| profile.region.clone());
    builder = builder.with_region(match (region, &endpoint) {
        (Some(region), _) => region,
        (None, Some(_)) => "us-east-1".into(),
        // The region is in the signature, so a wrong one is refused.
        (None, None) => runtime::wait(object_store::aws::resolve_bucket_region(bucket, &options))
            .map_err(|e| super::trouble::failed("find the region of", &format!("s3://{bucket}"), &e))?,
    });
    let virtual_hosted = settings.addressing == Addressing::Virtual;
    builder = builder.with_virtual_hosted_style_request(virtual_hosted);
    if let Some(endpoint) = endpoint {
        builder =
            builder.with_config(Key::S3Endpoint, if virtual_hosted { hosted(&endpoint, bucket) } else { endpoint });
    }
    Ok((credentials(builder, settings, &profile, &variables)?, options))
}

/// What variables say, without empty ones; with `profile_only` without those that hold credentials.
fn variables(profile_only: bool) -> Vec<(Key, String)> {
    let holds_credentials = |key: &Key| {
        matches!(
            key,
            Key::AccessKeyId
                | Key::SecretAccessKey
                | Key::Token
                | Key::WebIdentityTokenFile
                | Key::RoleArn
                | Key::ContainerCredentialsRelativeUri
                | Key::ContainerCredentialsFullUri
        )
    };
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
        .filter_map(|(name, value)| Some((Key::from_str(&name.to_ascii_lowercase()).ok()?, value)))
        .filter(|(key, _)| !(profile_only && holds_credentials(key)))
        .collect()
}

/// `http://host` becomes `http://bucket.host`.
fn hosted(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.into(),
    }
}

fn credentials(
    builder: AmazonS3Builder,
    settings: &Settings,
    profile: &Profile,
    variables: &[(Key, String)],
) -> Result<AmazonS3Builder> {
    let set = |wanted: Key| variables.iter().any(|(key, _)| *key == wanted);
    if settings.anonymous {
        return Ok(builder.with_skip_signature(true));
    }
    let unsigned = variables.iter().any(|(key, value)| *key == Key::SkipSignature && value == "true");
    let by_keys = set(Key::AccessKeyId) || set(Key::SecretAccessKey);
    if unsigned || by_keys || (set(Key::WebIdentityTokenFile) && set(Key::RoleArn)) {
        return Ok(builder);
    }
    match &profile.credentials {
        Credentials::Keys(provider) => return Ok(builder.with_credentials(provider.clone())),
        Credentials::WebIdentity { token_file, role, session } => {
            return Ok(builder
                .with_config(Key::WebIdentityTokenFile, token_file)
                .with_config(Key::RoleArn, role)
                .with_config(Key::RoleSessionName, session));
        }
        Credentials::None => {}
    }
    match (set(Key::ContainerCredentialsFullUri), set(Key::ContainerAuthorizationTokenFile)) {
        _ if set(Key::ContainerCredentialsRelativeUri) => return Ok(builder),
        (true, true) => return Ok(builder),
        (true, false) => {
            return Err(Error::usage(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI is set without AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, which has to name \
                 the file of the token: set that, or credentials of another kind",
            ));
        }
        (false, _) => {}
    }
    let disabled = env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v.eq_ignore_ascii_case("true"));
    let metadata = env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|_| METADATA.into());
    if !disabled && others::answers(&metadata) {
        return Ok(builder.with_metadata_endpoint(metadata));
    }
    Err(Error::usage(
        "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile (AWS_PROFILE or \
         store.profile), run where a role is attached, or say store.anonymous = true for public data",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_go_before_the_host() {
        assert_eq!(hosted("https://oss.example.com", "b"), "https://b.oss.example.com");
    }
}
