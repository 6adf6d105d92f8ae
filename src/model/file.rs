//! The model file: safetensors with one metadata key.
//!
//! The tensors are `SPACE.N.terms` (U8: the terms of block N, each followed by a line feed), `SPACE.N.idf` (F32),
//! `HEAD.weights` (F32, features × labels), `HEAD.bias` (F64), `HEAD.out_of_fold.logits` (F32, articles × labels) and
//! `HEAD.out_of_fold.labels` (U32), and `lexicon` (U8: its lines, where the model has one); SPACE is `document` or `passage`, HEAD is `topic`, `stance` or `role`. The metadata
//! key `depeche` holds the rest as JSON with sorted keys (labels, temperatures, priors, settings), so that the same model has the same bytes.
//!
//! Loading checks everything that serving relies on and refuses the file with the reason otherwise: it never panics,
//! and it allocates in proportion to the file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::Array2;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::head::{Head, OutOfFold};
use super::role::{BODY, REPEATED, RoleHead};
use super::{DoubtLimits, Model, Thresholds, Training};
use crate::features::{Block, BlockConfig, BlockKind, Field, Lexicon, Space, Vocabulary};

mod check;

pub use check::check_name;
use check::{check_bias, check_blocks, check_head, check_probability, check_training};

/// The newest format. A model is written in the oldest from 3 on that holds all of it, so that an older program reads it where it can.
///
/// Format 1 had no `thresholds.doubt`; it loads without those limits. In formats 1 and 2 the terms of a block were sorted by their
/// bytes; since format 3 they stand in any order. Format 4 has `training.settings` and `training.started_from`; before it there were none.
///
/// Format 5 has blocks that read [`Field::OwnCommon`] or [`Field::Edges`], and bigrams.
pub const FORMAT: u64 = 5;

/// The format of models that tell their settings or a start.
const WITH_SETTINGS: u64 = 4;

/// The format of models that say nothing of their settings, nor of a start.
const WITHOUT_SETTINGS: u64 = 3;

/// The only metadata key.
const KEY: &str = "depeche";

/// The name of the tensor that holds the lexicon.
const LEXICON: &str = "lexicon";

/// Why a model file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("can't read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is torn, or no safetensors file at all.
    #[error("not a safetensors file, or torn: {0}")]
    Container(String),
    /// The file is a safetensors file of something else.
    #[error("a safetensors file, but no Depeche model: its metadata has no key {KEY:?}")]
    Foreign,
    /// A later version of the program wrote the file.
    #[error("format {found} is newer than this version of depeche reads ({FORMAT}); use a newer depeche")]
    Newer {
        /// The file's format.
        found: u64,
    },
    /// What the file says contradicts itself or can't be served.
    #[error("inconsistent model: {0}")]
    Inconsistent(String),
}

/// Why a model file was not written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {path}")]
pub struct WriteError {
    /// The file.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

/// Everything in the file that is no tensor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u64,
    name: String,
    noise_label: Option<String>,
    /// For each space its blocks, in order.
    spaces: BTreeMap<String, Vec<BlockConfig>>,
    heads: BTreeMap<String, HeadHeader>,
    role: Option<RoleHeader>,
    thresholds: Thresholds,
    training: Training,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadHeader {
    labels: Vec<String>,
    temperature: f64,
    priors: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleHeader {
    threshold: f64,
    main_threshold: f64,
}

/// A tensor before it is written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Model {
    /// The bytes of the model's file, the same for the same model.
    ///
    /// # Errors
    ///
    /// The reason, when a tensor's size does not fit its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut header = Header {
            format: self.format(),
            name: self.name.clone(),
            noise_label: self.noise_label.clone(),
            spaces: BTreeMap::new(),
            heads: BTreeMap::new(),
            role: None,
            thresholds: self.thresholds.clone(),
            training: self.training.clone(),
        };
        write_space(&mut header, &mut tensors, "document", &self.document);
        if let Some(lexicon) = self.document.lexicon() {
            let bytes = lexicon.to_text().into_bytes();
            tensors.insert(LEXICON.into(), Tensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes });
        }
        for (name, head) in self.heads() {
            write_head(&mut header, &mut tensors, name, head);
        }
        if let Some(role) = &self.role {
            write_space(&mut header, &mut tensors, "passage", role.space());
            write_head(&mut header, &mut tensors, "role", role.head());
            let (threshold, main_threshold) = role.thresholds();
            header.role = Some(RoleHeader { threshold, main_threshold });
        }
        // A JSON value keeps its keys sorted, a struct in the order of its fields.
        let header = serde_json::to_value(&header).map_err(|error| inconsistent(error.to_string()))?.to_string();
        let views = tensors
            .iter()
            .map(|(name, tensor)| TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).map(|view| (name, view)));
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|error| inconsistent(error.to_string()))?;
        safetensors::serialize(views, Some([(KEY.to_owned(), header)].into())).map_err(|error| inconsistent(error.to_string()))
    }

    /// The format that the model is written in.
    #[must_use]
    pub fn format(&self) -> u64 {
        let Training { settings, started_from, .. } = &self.training;
        let spaces = std::iter::once(&self.document).chain(self.role.iter().map(RoleHead::space));
        let is_new = |block: &Block| {
            matches!(block.config.field, Field::OwnCommon | Field::Edges { .. }) || block.config.kind == BlockKind::Bigrams
        };
        if spaces.flat_map(Space::blocks).any(is_new) {
            FORMAT
        } else if settings.is_empty() && started_from.is_none() {
            WITHOUT_SETTINGS
        } else {
            WITH_SETTINGS
        }
    }

    /// Reads a model from the bytes of its file.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with the reason why the file is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let container = |error: safetensors::SafeTensorError| LoadError::Container(error.to_string());
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(container)?;
        let header = metadata.metadata().as_ref().and_then(|map| map.get(KEY)).ok_or(LoadError::Foreign)?;
        let version: serde_json::Value =
            serde_json::from_str(header).map_err(|error| inconsistent(format!("metadata: {error}")))?;
        let format = version.get("format").and_then(serde_json::Value::as_u64);
        match format.ok_or_else(|| inconsistent("the metadata has no format number"))? {
            1..=FORMAT => {}
            0 => return Err(inconsistent("there is no format 0")),
            found => return Err(LoadError::Newer { found }),
        }
        let header: Header = serde_json::from_value(version).map_err(|error| inconsistent(format!("metadata: {error}")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(container)?;
        let reading = Reading { tensors, header: &header, used: AtomicUsize::new(0) };
        // A server answers nothing before its model is read: what takes long is done side by side, here and below.
        let (digest, model) = rayon::join(|| Sha256::digest(bytes), || reading.model());
        let model = model?;
        if reading.used.into_inner() != reading.tensors.len() {
            return Err(inconsistent("the file has tensors that belong to no head and no block"));
        }
        Ok(Self { version: hexadecimal(&digest), ..model })
    }

    /// Reads a model from a file.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with the reason why the file is refused.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }
}

/// Writes `bytes` to a temporary file beside `path` and renames it, so that a crash leaves the old file or the new one.
///
/// # Errors
///
/// [`WriteError`], when the folder is missing or can't be written to.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new().prefix(".depeche-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        // The temporary file is private; a model file is as readable as any other new file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path).map_or(0o644, |old| old.permissions().mode() & 0o777);
            file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn inconsistent(reason: impl Into<String>) -> LoadError {
    LoadError::Inconsistent(reason.into())
}

fn write_space(header: &mut Header, tensors: &mut BTreeMap<String, Tensor>, name: &str, space: &Space) {
    header.spaces.insert(name.to_owned(), space.blocks().iter().map(|block| block.config.clone()).collect());
    for (at, block) in space.blocks().iter().enumerate() {
        let terms: Vec<u8> = block.vocabulary.iter().flat_map(|term| term.bytes().chain([b'\n'])).collect();
        tensors.insert(format!("{name}.{at}.terms"), Tensor { dtype: Dtype::U8, shape: vec![terms.len()], bytes: terms });
        tensors.insert(format!("{name}.{at}.idf"), singles(vec![block.idf.len()], block.idf.iter().copied()));
    }
}

fn write_head(header: &mut Header, tensors: &mut BTreeMap<String, Tensor>, name: &str, head: &Head) {
    let Head { labels, weights, bias, temperature, priors, out_of_fold } = head;
    header
        .heads
        .insert(name.to_owned(), HeadHeader { labels: labels.clone(), temperature: *temperature, priors: priors.clone() });
    tensors.insert(format!("{name}.weights"), singles(weights.shape().to_vec(), weights.iter().copied()));
    let bytes = bias.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensors.insert(format!("{name}.bias"), Tensor { dtype: Dtype::F64, shape: vec![bias.len()], bytes });
    let shape = vec![out_of_fold.labels.len(), labels.len()];
    tensors.insert(format!("{name}.out_of_fold.logits"), singles(shape, out_of_fold.logits.iter().copied()));
    let bytes = out_of_fold.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    let shape = vec![out_of_fold.labels.len()];
    tensors.insert(format!("{name}.out_of_fold.labels"), Tensor { dtype: Dtype::U32, shape, bytes });
}

fn singles(shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Tensor {
    Tensor { dtype: Dtype::F32, shape, bytes: values.flat_map(f32::to_le_bytes).collect() }
}

/// A file being read.
struct Reading<'a> {
    tensors: SafeTensors<'a>,
    header: &'a Header,
    /// Tensors read so far.
    used: AtomicUsize,
}

impl Reading<'_> {
    fn model(&self) -> Result<Model, LoadError> {
        let header = self.header;
        check_name(&header.name)?;
        let (lexicon, (document, passage)) = rayon::join(
            || self.lexicon(),
            || rayon::join(|| self.space("document"), || header.role.as_ref().map(|_| self.space("passage")).transpose()),
        );
        let document = document?.with_lexicon(lexicon?);
        let passage = passage?;
        let needs_lexicon = |block: &Block| matches!(block.config.kind, BlockKind::Concepts | BlockKind::Relations);
        if document.lexicon().is_none() && document.blocks().iter().any(needs_lexicon) {
            return Err(inconsistent("document: a block of concepts or relations, but no lexicon"));
        }
        let topic = self.head("topic", &document)?;
        let stance = if header.heads.contains_key("stance") { Some(self.head("stance", &document)?) } else { None };
        let role = match header.role.as_ref().zip(passage) {
            Some((RoleHeader { threshold, main_threshold }, space)) => {
                let head = self.head("role", &space)?;
                if !head.labels.iter().any(|label| label == BODY) || head.labels.iter().any(|label| label == REPEATED) {
                    return Err(inconsistent(format!("the role head must have the label {BODY:?} and not {REPEATED:?}")));
                }
                check_probability("role.threshold", *threshold)?;
                check_probability("role.main_threshold", *main_threshold)?;
                Some(RoleHead::new(space, head, *threshold, *main_threshold))
            }
            None => None,
        };
        let known = 1 + usize::from(stance.is_some()) + usize::from(role.is_some());
        if header.heads.len() != known || header.spaces.len() != 1 + usize::from(role.is_some()) {
            return Err(inconsistent("the metadata has heads or spaces that a model does not have"));
        }
        if let Some(label) = header.noise_label.as_ref().filter(|label| !topic.labels.contains(label)) {
            return Err(inconsistent(format!("the noise label {label:?} is no topic")));
        }
        check_probability("thresholds.ticker_only", header.thresholds.ticker_only)?;
        if let Some(DoubtLimits { most_unknown, .. }) = header.thresholds.doubt {
            check_probability("thresholds.doubt.most_unknown", most_unknown)?;
        }
        check_training(header)?;
        Ok(Model {
            name: header.name.clone(),
            version: String::new(),
            noise_label: header.noise_label.clone(),
            document,
            topic,
            stance,
            role,
            thresholds: header.thresholds.clone(),
            training: header.training.clone(),
        })
    }

    fn lexicon(&self) -> Result<Option<Lexicon>, LoadError> {
        if !self.tensors.names().contains(&LEXICON) {
            return Ok(None);
        }
        let (_, bytes) = self.tensor(LEXICON, Dtype::U8, 1)?;
        let text = std::str::from_utf8(bytes).map_err(|error| inconsistent(format!("{LEXICON}: {error}")))?;
        Lexicon::parse(text).map(Some).map_err(|error| inconsistent(format!("{LEXICON}: {error}")))
    }

    fn space(&self, name: &str) -> Result<Space, LoadError> {
        let configs = self.header.spaces.get(name).ok_or_else(|| inconsistent(format!("there is no space {name:?}")))?;
        check_blocks(name, configs)?;
        let blocks = configs.par_iter().enumerate().with_max_len(1).map(|(at, config)| self.block(name, at, config));
        // All of them, so that of several that are wrong the first is named each time.
        let blocks: Vec<Result<Block, LoadError>> = blocks.collect();
        Ok(Space::new(blocks.into_iter().collect::<Result<_, _>>()?))
    }

    fn block(&self, space: &str, at: usize, config: &BlockConfig) -> Result<Block, LoadError> {
        let key = format!("{space}.{at}.terms");
        let (_, bytes) = self.tensor(&key, Dtype::U8, 1)?;
        let terms = std::str::from_utf8(bytes).map_err(|error| inconsistent(format!("{key}: {error}")))?;
        if !terms.is_empty() && !terms.ends_with('\n') {
            return Err(inconsistent(format!("{key}: the last term is not ended by a line feed")));
        }
        let count = bytes.iter().filter(|byte| **byte == b'\n').count();
        let mut vocabulary = Vocabulary::with_capacity(count, bytes.len() - count);
        for term in terms.split_terminator('\n') {
            vocabulary.intern(term);
        }
        if count != vocabulary.len() {
            return Err(inconsistent(format!("{key}: a term appears twice")));
        }
        let key = format!("{space}.{at}.idf");
        let (_, idf) = self.singles(&key, 1)?;
        if idf.len() != vocabulary.len() {
            return Err(inconsistent(format!("{key} has {} values for {} terms", idf.len(), vocabulary.len())));
        }
        if let Some(value) = idf.iter().find(|value| **value <= 0.0) {
            return Err(inconsistent(format!("{key} has the value {value}, which is not above zero")));
        }
        Ok(Block { config: config.clone(), vocabulary, idf })
    }

    fn head(&self, name: &str, space: &Space) -> Result<Head, LoadError> {
        let header = self.header;
        let stated = header.heads.get(name).ok_or_else(|| inconsistent(format!("there is no head {name:?}")))?;
        check_head(name, stated)?;
        let HeadHeader { labels, temperature, priors } = stated;
        let (shape, weights) = self.singles(&format!("{name}.weights"), 2)?;
        if shape != [space.features(), labels.len()] {
            let expected = [space.features(), labels.len()];
            return Err(inconsistent(format!("{name}.weights are {shape:?}, not features × labels, {expected:?}")));
        }
        let (_, bytes) = self.tensor(&format!("{name}.bias"), Dtype::F64, 1)?;
        let bias: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        check_bias(name, &bias, labels.len())?;
        let out_of_fold = self.out_of_fold(name, labels.len())?;
        let weights = array(shape[0], shape[1], weights)?;
        Ok(Head { labels: labels.clone(), weights, bias, temperature: *temperature, priors: priors.clone(), out_of_fold })
    }

    fn out_of_fold(&self, name: &str, labels: usize) -> Result<OutOfFold, LoadError> {
        let (shape, logits) = self.singles(&format!("{name}.out_of_fold.logits"), 2)?;
        let (_, bytes) = self.tensor(&format!("{name}.out_of_fold.labels"), Dtype::U32, 1)?;
        let chosen: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        if shape != [chosen.len(), labels] || chosen.iter().any(|label| *label as usize >= labels) {
            return Err(inconsistent(format!("{name}.out_of_fold has {} labels for logits of shape {shape:?}", chosen.len())));
        }
        Ok(OutOfFold { logits: array(shape[0], shape[1], logits)?, labels: chosen })
    }

    fn tensor(&self, name: &str, dtype: Dtype, dimensions: usize) -> Result<(Vec<usize>, &[u8]), LoadError> {
        let view = self.tensors.tensor(name).map_err(|_| inconsistent(format!("the tensor {name} is missing")))?;
        if view.dtype() != dtype || view.shape().len() != dimensions {
            let (found, shape) = (view.dtype(), view.shape());
            return Err(inconsistent(format!(
                "the tensor {name} is {found:?} of shape {shape:?}, not {dtype:?} of {dimensions} dimensions"
            )));
        }
        self.used.fetch_add(1, Ordering::Relaxed);
        Ok((view.shape().to_vec(), view.data()))
    }

    fn singles(&self, name: &str, dimensions: usize) -> Result<(Vec<usize>, Vec<f32>), LoadError> {
        let (shape, bytes) = self.tensor(name, Dtype::F32, dimensions)?;
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(inconsistent(format!("{name} has the value {value}")));
        }
        Ok((shape, values))
    }
}

fn array(rows: usize, columns: usize, values: Vec<f32>) -> Result<Array2<f32>, LoadError> {
    Array2::from_shape_vec((rows, columns), values).map_err(|error| inconsistent(error.to_string()))
}

#[cfg(test)]
mod tests;
