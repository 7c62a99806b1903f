//! Compiles `bpf/steer.bpf.c` and writes the Rust skeleton for it, for feature `xdp` only.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "xdp")]
    steer::build();
}

#[cfg(feature = "xdp")]
mod steer {
    use std::env;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use libbpf_cargo::SkeletonBuilder;

    const SOURCE: &str = "bpf/steer.bpf.c";

    pub fn build() {
        println!("cargo::rerun-if-changed=bpf");
        println!("cargo::rerun-if-env-changed=CLANG");
        let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
        assert!(
            Command::new(&clang).arg("--version").output().is_ok_and(|output| output.status.success()),
            "`{clang}` does not run: install the system package `clang` (scripts/setup does), or name \
             another in the environment variable CLANG; without the feature `xdp` it is not needed"
        );
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.skel.rs");
        // Without -mcpu=v3, clang 14 leaves garbage in the upper halves of registers.
        let mut args: Vec<String> = ["-mcpu=v3", "-Wall", "-Wextra", "-Werror"].map(Into::into).into();
        args.extend(kernel_headers().map(|folder| format!("-I{}", folder.display())));
        let built =
            SkeletonBuilder::new().source(SOURCE).clang(&clang).clang_args(args).build_and_generate(&out);
        if let Err(error) = built {
            panic!(
                "{SOURCE} does not compile: if a header is missing, install the system package \
                 `linux-libc-dev` (scripts/setup does): {error:#}"
            );
        }
    }

    /// The folder with `asm/types.h` where it is not directly under /usr/include, as on Debian.
    fn kernel_headers() -> Option<PathBuf> {
        if Path::new("/usr/include/asm/types.h").exists() {
            return None;
        }
        let target = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target's architecture");
        let triples = ["cc", "gcc", "clang"].iter().filter_map(|compiler| multiarch(compiler));
        let found = triples
            .chain([format!("{target}-linux-gnu")])
            .map(|triple| Path::new("/usr/include").join(triple))
            .find(|folder| folder.join("asm/types.h").exists());
        assert!(
            found.is_some(),
            "asm/types.h is not below /usr/include: install the system packages `linux-libc-dev` and \
             `libc6-dev` (scripts/setup does)"
        );
        found
    }

    fn multiarch(compiler: &str) -> Option<String> {
        let output = Command::new(compiler).arg("-print-multiarch").output().ok()?;
        let triple = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !triple.is_empty()).then_some(triple)
    }
}
