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

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../lua-5.1.5/", $name)).as_slice())),*]
    };
}

/// The folder's files and their texts. They are part of this library, not read when it runs: a target
/// directory may serve several checkouts, whose folders come and go.
const FILES: &[(&str, &[u8])] = files![
    "lapi.c"
    "lapi.h"
    "lauxlib.c"
    "lauxlib.h"
    "lbaselib.c"
    "lcode.c"
    "lcode.h"
    "ldblib.c"
    "ldebug.c"
    "ldebug.h"
    "ldo.c"
    "ldo.h"
    "ldump.c"
    "lfunc.c"
    "lfunc.h"
    "lgc.c"
    "lgc.h"
    "linit.c"
    "liolib.c"
    "llex.c"
    "llex.h"
    "llimits.h"
    "lmathlib.c"
    "lmem.c"
    "lmem.h"
    "loadlib.c"
    "lobject.c"
    "lobject.h"
    "lopcodes.c"
    "lopcodes.h"
    "loslib.c"
    "lparser.c"
    "lparser.h"
    "lstate.c"
    "lstate.h"
    "lstring.c"
    "lstring.h"
    "lstrlib.c"
    "ltable.c"
    "ltable.h"
    "ltablib.c"
    "ltm.c"
    "ltm.h"
    "lua.h"
    "luaconf.h"
    "lualib.h"
    "lundump.c"
    "lundump.h"
    "lvm.c"
    "lvm.h"
    "lzio.c"
    "lzio.h"
];

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
        match compile(&out) {
            Ok(artifacts) => artifacts,
            Err(error) => {
                eprintln!("lua-src: compile in {}: {error}", out.display());
                std::process::exit(1);
            }
        }
    }
}

fn compile(out: &Path) -> Result<Artifacts, Box<dyn std::error::Error>> {
    let source = out.join("lua-5.1.5");
    std::fs::create_dir_all(&source)?;
    let mut files = Vec::new();
    for (name, text) in FILES {
        let path = source.join(name);
        std::fs::write(&path, text)?;
        if name.ends_with(".c") {
            files.push(path);
        }
    }
    let library_folder = out.join("lib");
    cc::Build::new()
        .cargo_metadata(false)
        .warnings(false)
        .include(&source)
        .define("LUA_USE_POSIX", None)
        .flag_if_supported("-fno-common")
        .files(files)
        .out_dir(&library_folder)
        .try_compile(LIBRARY)?;
    Ok(Artifacts {
        library_folder,
        include_folder: source,
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
