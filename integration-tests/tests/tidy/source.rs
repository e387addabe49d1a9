//! Rust files, read as far as the rules need it: by lines, relying on rustfmt's layout.

use super::text;
use std::collections::BTreeSet;

/// A Rust file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// From the repository's root, with slashes.
    pub(crate) path: String,
    pub(crate) code: String,
    /// Compiled for tests only.
    pub(crate) is_test: bool,
}

/// A function's name and length with signature and braces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: usize,
}

/// All Rust files of the workspace.
pub(crate) fn rust_files() -> impl Iterator<Item = SourceFile> {
    let files: Vec<_> = text::files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect();
    let test_modules: BTreeSet<String> = files
        .iter()
        .flat_map(|file| test_modules(&file.path, &file.content))
        .collect();
    files.into_iter().map(move |file| {
        let is_test = file.path.split('/').any(|part| {
            matches!(
                part,
                "tests" | "tests.rs" | "testing" | "testing.rs" | "benches" | "fuzz"
            )
        }) || file.path.ends_with("_tests.rs")
            || test_modules.iter().any(|module| {
                let rest = file.path.strip_prefix(module.as_str());
                rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            });
        SourceFile {
            path: file.path,
            code: file.content,
            is_test,
        }
    })
}

/// Paths, without `.rs`, of the modules that `code` declares for tests only.
fn test_modules(path: &str, code: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
    };
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| {
            pair[0].starts_with("#[cfg(test)]") || pair[0].contains("feature = \"testing\"")
        })
        .filter_map(|pair| {
            let module = pair[1]
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ");
            Some(format!(
                "{folder}/{}",
                module.strip_prefix("mod ")?.strip_suffix(';')?
            ))
        })
        .collect()
}

impl SourceFile {
    /// Lines up to the in-file test module; of a test file, all.
    pub(crate) fn product_lines(&self) -> usize {
        if self.is_test {
            self.code.lines().count()
        } else {
            product(&self.code).len()
        }
    }

    /// How often one of `words` stands in code outside tests, comments and string literals.
    pub(crate) fn count_in_product(&self, words: &[&str]) -> usize {
        let lines = product(&self.code).into_iter().map(without_literals);
        lines
            .map(|line| {
                words
                    .iter()
                    .map(|word| line.matches(word).count())
                    .sum::<usize>()
            })
            .sum()
    }

    /// Functions that begin and end on lines of their own.
    pub(crate) fn functions(&self) -> Vec<Function> {
        functions(&self.code)
    }
}

/// The lines outside items for tests.
fn product(code: &str) -> Vec<&str> {
    let mut kept = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let end = format!("{}}}", indent(line));
        for skipped in lines.by_ref() {
            let declaration =
                skipped.trim_end().ends_with(';') && skipped.starts_with(indent(line));
            if skipped == end || (declaration && indent(skipped) == indent(line)) {
                break;
            }
        }
    }
    kept
}

fn indent(line: &str) -> &str {
    let text = line.trim_start();
    line.get(..line.len() - text.len()).unwrap_or_default()
}

/// `line` without comment and with empty string literals. Raw strings over several lines are
/// not understood; none of them holds code so far.
fn without_literals(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '\'' if !quoted && chars.peek() == Some(&'"') => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => out.push(c),
        }
    }
    out
}

fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let lines: Vec<&str> = code.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let end = format!("{}}}", indent(line));
        // A signature that ends with `;` (in a trait) has no body.
        let stop = lines.iter().enumerate().skip(start).find(|(_, candidate)| {
            **candidate == end || (candidate.ends_with(';') && indent(candidate) == indent(line))
        });
        if let Some((stop, last)) = stop
            && *last == end
        {
            found.push(Function {
                name,
                lines: stop - start + 1,
            });
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "fn" => {
                let name = words.next()?;
                return Some(
                    name.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect(),
                );
            }
            "async" | "const" | "unsafe" | "extern" | "\"C\"" => {}
            word if word.starts_with("pub") || word.ends_with(')') => {}
            _ => return None,
        }
    }
    None
}

#[test]
fn functions_are_measured_with_their_braces() {
    let code = "impl A {\n    pub(crate) async fn a(\n        x: u8,\n    ) {\n        x;\n    }\n\n    fn b();\n}\nfn c() {\n}\n";
    let expected = [("a", 5), ("c", 2)].map(|(name, lines)| Function {
        name: name.into(),
        lines,
    });
    assert_eq!(functions(code), expected);
}

#[test]
fn tests_comments_and_literals_are_not_product_code() {
    let code = "a.unwrap(); // b.unwrap()\nlet s = \"c.unwrap()\";\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more {\n    d.unwrap();\n}\nlet q = '\"'; e.unwrap();\n";
    let file = SourceFile {
        path: "x.rs".into(),
        code: code.into(),
        is_test: false,
    };
    assert_eq!(file.count_in_product(&[".unwrap()"]), 2);
    assert_eq!(test_modules("a/b.rs", code), ["a/b/tests"]);
}
