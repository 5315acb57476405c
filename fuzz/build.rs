//! Lets `targets/request.rs` count the comparisons that the compiler reports to the fuzzer.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for kind in ["cmp", "const_cmp"] {
        for bytes in [1, 2, 4, 8] {
            let symbol = format!("__sanitizer_cov_trace_{kind}{bytes}");
            println!("cargo:rustc-link-arg-bin=request=-Wl,--wrap={symbol}");
        }
    }
}
