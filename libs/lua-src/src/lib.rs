//! Compiles the Lua 5.1 in this folder. See README.md for what is different in it.
//!
//! Only what `mlua-sys` calls is here. Runs in build scripts: an error ends the build.

use std::path::{Path, PathBuf};

/// The versions of Lua that there are; this folder has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Lua 5.1.5
    Lua51,
}
pub use Version::Lua51;

/// How to compile.
#[derive(Debug, Default)]
pub struct Build;

/// What was compiled.
#[derive(Debug)]
pub struct Artifacts {
    library_folder: PathBuf,
    include_folder: PathBuf,
}

const LIBRARY: &str = "lua5.1";

impl Build {
    /// For the target of the running build script.
    pub fn new() -> Self {
        Self
    }

    /// Compiles.
    pub fn build(&self, _version: Version) -> Artifacts {
        let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else {
            eprintln!("lua-src: not in a build script");
            std::process::exit(1);
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua-5.1.5");
        match compile(&source, &out) {
            Ok(artifacts) => artifacts,
            Err(error) => {
                eprintln!("lua-src: compile {}: {error}", source.display());
                std::process::exit(1);
            }
        }
    }
}

fn compile(source: &Path, out: &Path) -> Result<Artifacts, Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={}", source.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(source)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            files.push(path);
        }
    }
    files.sort();
    let library_folder = out.join("lib");
    cc::Build::new()
        .cargo_metadata(false)
        .warnings(false)
        .include(source)
        .define("LUA_USE_POSIX", None)
        .flag_if_supported("-fno-common")
        .files(files)
        .out_dir(&library_folder)
        .try_compile(LIBRARY)?;
    Ok(Artifacts {
        library_folder,
        include_folder: source.to_owned(),
    })
}

impl Artifacts {
    /// Tells cargo how to link.
    pub fn print_cargo_metadata(&self) {
        let (library, include) = (self.library_folder.display(), self.include_folder.display());
        println!("cargo:rustc-link-search=native={library}");
        println!("cargo:rustc-link-lib=static={LIBRARY}");
        println!("cargo:include={include}");
        println!("cargo:lib={library}");
    }
}
