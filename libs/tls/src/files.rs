//! Certificates out of files and directories.

use super::TlsError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Nobody's certificates or keys are larger.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files in `tls-ca-cert-dir` that are looked at.
const DIR_FILES_MAX: usize = 10_000;

/// A whole file, within the bound.
pub(crate) fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let reading = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > FILE_BYTES_MAX {
            true => Err(io::Error::other("the file is too large")),
            false => Ok(bytes),
        }
    };
    reading().map_err(|error| TlsError::Unreadable {
        option,
        path: path.to_owned(),
        error,
    })
}

/// All certificates of a file, in its order; at least one.
pub(crate) fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(option, path)?;
    let unusable = |why: String| TlsError::Unusable {
        option,
        path: path.to_owned(),
        why,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| unusable(format!("{error}")))?;
    match found.is_empty() {
        true => Err(unusable("no certificate in PEM is in it".to_owned())),
        false => Ok(found),
    }
}

/// The certificates of a directory as OpenSSL keeps them: in files or links whose names are a
/// hash, a dot and a number. Others are no part of it.
pub(crate) fn directory(
    option: &'static str,
    path: &Path,
    notices: &mut Vec<String>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable {
        option,
        path: path.to_owned(),
        error,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if name.to_str().is_some_and(is_hash_name) {
            names.push(name);
        }
        if names.len() > DIR_FILES_MAX {
            let why = format!("more than {DIR_FILES_MAX} certificates");
            return Err(unreadable(io::Error::other(why)));
        }
    }
    if names.is_empty() {
        notices.push(format!(
            "{option} '{}' has no certificate under the hash of its subject: run `openssl rehash` \
             on it",
            path.display()
        ));
    }
    names.sort();
    let mut found = Vec::new();
    for name in names {
        found.extend(certificates(option, &path.join(name))?);
    }
    Ok(found)
}

/// `0123abcd.0`
fn is_hash_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_named_by_a_hash_are_a_directorys() {
        for (name, is_one) in [
            ("0123abcd.0", true),
            ("0123ABCD.12", true),
            ("0123abcd.r0", false),
            ("123abcd.0", false),
            ("ca.pem", false),
            ("0123abcd.", false),
        ] {
            assert_eq!(is_hash_name(name), is_one, "{name}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_told_by_option_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        let error = certificates("tls-cert-file", &path)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("Failed to read tls-cert-file '/"),
            "{error}"
        );
        for text in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = certificates("tls-cert-file", &path)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("Failed to load tls-cert-file '/"),
                "{error}"
            );
        }
        let mut notices = Vec::new();
        let found = directory("tls-ca-cert-dir", dir.path(), &mut notices).unwrap();
        assert!(found.is_empty() && notices[0].contains("openssl rehash"));
    }
}
