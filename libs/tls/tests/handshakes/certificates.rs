//! Certificates made by the `openssl` program, as an operator makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of them: `NAME.crt` and `NAME.key`.
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
}

/// For a certificate of version 3.
pub(crate) const LEAF: &str =
    "keyUsage=digitalSignature,keyEncipherment\nbasicConstraints=CA:FALSE";

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn crt(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.crt"))
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.key"))
    }

    /// Runs `openssl` in the folder.
    pub(crate) fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .expect("the openssl program is installed");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {told}");
    }

    /// A key: `rsa:2048`, or of a curve.
    pub(crate) fn make_key(&self, name: &str, kind: &str) {
        match kind.strip_prefix("rsa:") {
            Some(bits) => self.openssl(&format!("genrsa -out {name}.key {bits}")),
            None if kind == "ed25519" => {
                self.openssl(&format!("genpkey -algorithm ed25519 -out {name}.key"));
            }
            None => self.openssl(&format!(
                "ecparam -genkey -name {kind} -noout -out {name}.key"
            )),
        }
    }

    /// One that is its own root, and an authority.
    pub(crate) fn root(&self, name: &str, days: i32) {
        self.make_key(name, "prime256v1");
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -sha256 -days {days} -subj /O=Test/CN={name} -out \
             {name}.crt"
        ));
    }

    /// One whose time was the first of 2020; issued by itself if it is its own issuer.
    pub(crate) fn issue_in_2020(&self, name: &str, issuer: &str, extensions: &str) {
        self.make_key(name, "prime256v1");
        self.openssl(&format!(
            "req -new -key {name}.key -subj /O=Test/CN={name} -out {name}.csr"
        ));
        let write = |file: &str, text: &str| std::fs::write(self.dir.path().join(file), text);
        write("extensions", extensions).unwrap();
        write("index", "").unwrap();
        write("index.attr", "unique_subject = no\n").unwrap();
        let config = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\n\
                      rand_serial=yes\ndefault_md=sha256\npolicy=any\n[any]\n\
                      organizationName=optional\ncommonName=supplied\n";
        write("authority", config).unwrap();
        let by = match name == issuer {
            true => "-selfsign".to_owned(),
            false => format!("-cert {issuer}.crt"),
        };
        self.openssl(&format!(
            "ca -batch -config authority -in {name}.csr {by} -keyfile {issuer}.key -startdate \
             20200101000000Z -enddate 20200102000000Z -notext -extfile extensions -out {name}.crt"
        ));
    }

    /// One issued by another, with `extensions` in version 3, without any in version 1.
    pub(crate) fn issue(&self, name: &str, issuer: &str, kind: &str, extensions: &str, days: i32) {
        self.make_key(name, kind);
        self.openssl(&format!(
            "req -new -key {name}.key -subj /O=Test/CN={name} -out {name}.csr"
        ));
        let mut words = format!(
            "x509 -req -in {name}.csr -CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial -sha256 \
             -days {days} -out {name}.crt"
        );
        if !extensions.is_empty() {
            std::fs::write(self.dir.path().join("extensions"), extensions).unwrap();
            words.push_str(" -extfile extensions");
        }
        self.openssl(&words);
    }
}
