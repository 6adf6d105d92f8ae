//! Compiles the protos with protox, so that nothing but Rust needs to be installed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use prost_types::FileDescriptorSet;
use protox::Compiler;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver};

/// Sources, in the order in which they are described. The error details are here for server reflection: without them
/// grpcurl shows the details of an error as base64.
const FILES: [&str; 5] = [
    "depeche/v1/classifier.proto",
    "depeche/v1/model.proto",
    "depeche/v1/admin.proto",
    "grpc/health/v1/health.proto",
    "google/rpc/error_details.proto",
];

/// What has a JSON form: the answer and what it holds.
const JSON: [&str; 8] = [
    ".depeche.v1.ClassifyResponse",
    ".depeche.v1.Prediction",
    ".depeche.v1.Score",
    ".depeche.v1.Contribution",
    ".depeche.v1.Occurrence",
    ".depeche.v1.Passage",
    ".depeche.v1.Role",
    ".depeche.v1.Reason",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new("proto".into()));
    resolver.add(GoogleFileResolver::new());
    resolver.add(DescriptorSetFileResolver::decode(google_rpc()?.as_slice())?);
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &descriptors)?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(FileDescriptorSet::decode(descriptors.as_slice())?)?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors)?
        // The command line writes answers as JSON, nothing else.
        .build(&JSON)?;
    Ok(())
}

/// The descriptors of google.rpc. They come with the tonic-types crate, as its code does, under names without a folder;
/// here they get those that everybody imports them by.
fn google_rpc() -> Result<Vec<u8>, prost::DecodeError> {
    let mut files = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    for file in &mut files.file {
        if let Some(name) = file.name.as_mut().filter(|name| !name.contains('/')) {
            name.insert_str(0, "google/rpc/");
        }
    }
    Ok(files.encode_to_vec())
}
