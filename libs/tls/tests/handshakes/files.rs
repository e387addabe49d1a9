//! What is loaded, and what errors say.

use super::certificates::{Certificates, LEAF};
use super::peers::{options, shake};
use super::usual;
use redrock_tls::{AuthClients, Options, client_config, server_config};

fn refused(options: &Options) -> String {
    server_config(options).unwrap_err().to_string()
}

#[test]
fn what_is_missing_is_told_as_redis_tells_it() {
    let made = usual();
    let whole = options(&made, "server");
    let without = |change: fn(&mut Options)| {
        let mut options = whole.clone();
        change(&mut options);
        options
    };
    let text = refused(&without(|options| options.cert_file = None));
    assert_eq!(text, "No tls-cert-file configured!");
    let text = refused(&without(|options| options.key_file = None));
    assert_eq!(text, "No tls-key-file configured!");
    let mut no_ca = without(|options| options.ca_cert_file = None);
    assert!(refused(&no_ca).starts_with("Either tls-ca-cert-file or tls-ca-cert-dir"));
    client_config(&no_ca).unwrap_err();
    no_ca.auth_clients = AuthClients::No;
    server_config(&no_ca).unwrap();
    let half = Options {
        client_cert_file: Some(made.crt("client")),
        ..whole
    };
    server_config(&half).unwrap();
    let text = client_config(&half).unwrap_err().to_string();
    assert_eq!(text, "No tls-client-key-file configured!");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let made = usual();
    made.issue("one", "ca", "prime256v1", "", 10);
    for name in ["server", "one"] {
        let text = refused(&Options {
            key_file: Some(made.key("client")),
            ..options(&made, name)
        });
        assert!(
            text.contains("is not that of the certificate in tls-cert-file"),
            "{text}"
        );
    }
}

#[test]
fn encrypted_keys_need_their_password() {
    let made = usual();
    made.openssl("pkcs8 -topk8 -in server.key -out sealed.key -v2 aes-256-cbc -passout pass:1234");
    made.openssl("rsa -in server.key -out sealed2.key -aes256 -passout pass:1234");
    made.openssl("pkcs8 -topk8 -in server.key -out sealed3.key -scrypt -passout pass:1234");
    made.openssl("rsa -in server.key -out legacy.key -aes256 -traditional -passout pass:1234");
    let with = |key: &str, pass: Option<&str>| Options {
        key_file: Some(made.key(key)),
        key_file_pass: pass.map(str::to_owned),
        ..options(&made, "server")
    };
    for key in ["sealed", "sealed2", "sealed3"] {
        shake(&with(key, Some("1234")), &options(&made, "client")).unwrap();
        let text = refused(&with(key, Some("12345")));
        assert!(text.contains("tls-key-file-pass is wrong"), "{text}");
        let text = refused(&with(key, None));
        assert!(
            text.contains("it is encrypted, set tls-key-file-pass"),
            "{text}"
        );
    }
    let text = refused(&with("legacy", Some("1234")));
    assert!(text.contains("openssl pkcs8 -topk8"), "{text}");
    // A password that is not needed does no harm.
    server_config(&with("server", Some("x"))).unwrap();
}

#[test]
fn authorities_may_be_in_a_directory() {
    let made = usual();
    let dir = made.dir().join("authorities");
    std::fs::create_dir(&dir).unwrap();
    let server = Options {
        ca_cert_file: None,
        ca_cert_dir: Some(dir.clone()),
        ..options(&made, "server")
    };
    std::fs::copy(made.crt("ca"), dir.join("ca.crt")).unwrap();
    let built = server_config(&server).unwrap();
    assert!(
        built.notices[0].contains("openssl rehash"),
        "{:?}",
        built.notices
    );
    shake(&server, &options(&made, "client")).unwrap_err();
    made.openssl("rehash authorities");
    assert!(server_config(&server).unwrap().notices.is_empty());
    shake(&server, &options(&made, "client")).unwrap();
}

#[test]
fn a_client_shows_the_certificate_meant_for_it() {
    let made = Certificates::new();
    made.root("ca", 10);
    let serves = format!("{LEAF}\nextendedKeyUsage=serverAuth");
    made.issue("server", "ca", "prime256v1", &serves, 10);
    made.issue("client", "ca", "prime256v1", LEAF, 10);
    let mut both = options(&made, "server");
    // That of the server, which is for servers only.
    shake(&both, &both).unwrap_err();
    both.client_cert_file = Some(made.crt("client"));
    both.client_key_file = Some(made.key("client"));
    shake(&both, &both).unwrap();
}

#[test]
fn malformed_files_are_refused_and_nothing_else_happens() {
    let made = usual();
    let good = std::fs::read(made.crt("ca")).unwrap();
    let path = made.dir().join("bad.crt");
    let server = Options {
        ca_cert_file: Some(path.clone()),
        ..options(&made, "server")
    };
    for at in (30..good.len() - 30).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        std::fs::write(&path, &bytes).unwrap();
        // Taken or not: whether it is signed shows later.
        if let Err(error) = server_config(&server) {
            assert!(error.to_string().contains("tls-ca-cert-file"), "{error}");
        }
    }
}
