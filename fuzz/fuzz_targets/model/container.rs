//! A safetensors file in its parts, which need not fit each other.

use serde_json::{Map, Value, json};

/// The metadata key of a model.
const KEY: &str = "depeche";

/// The key of the metadata among the tensors.
const METADATA: &str = "__metadata__";

/// A tensor, whether or not its shape fits its data.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<u8>,
}

/// A file: what its metadata says, and its tensors.
pub(crate) struct Container {
    pub(crate) metadata: Value,
    pub(crate) tensors: Vec<Tensor>,
}

impl Container {
    /// The parts of a file, where it has them.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let mut header: Map<String, Value> = serde_json::from_slice(header).ok()?;
        let metadata = header.remove(METADATA)?;
        let metadata = serde_json::from_str(metadata.get(KEY)?.as_str()?).ok()?;
        let mut tensors = Vec::new();
        for (name, tensor) in header {
            let offset = |at: usize| usize::try_from(tensor.get("data_offsets")?.get(at)?.as_u64()?).ok();
            let data = data.get(offset(0)?..offset(1)?)?.to_vec();
            let shape = tensor.get("shape")?.as_array()?.iter().filter_map(Value::as_u64).collect();
            tensors.push(Tensor { name, dtype: tensor.get("dtype")?.as_str()?.to_owned(), shape, data });
        }
        Some(Self { metadata, tensors })
    }

    /// The file of these parts.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert(METADATA.into(), json!({KEY: self.metadata.to_string()}));
        let mut data = Vec::new();
        for tensor in &self.tensors {
            let begin = data.len();
            data.extend_from_slice(&tensor.data);
            let parts = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
            header.insert(tensor.name.clone(), parts);
        }
        let mut header = Value::Object(header).to_string();
        // The format wants the data to begin at a multiple of eight.
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    }

    /// The tensor of this name.
    pub(crate) fn tensor(&mut self, name: &str) -> Option<&mut Tensor> {
        self.tensors.iter_mut().find(|tensor| tensor.name == name)
    }
}

impl Tensor {
    /// Bytes of an element.
    pub(crate) fn width(&self) -> usize {
        match self.dtype.as_str() {
            "F64" | "U64" | "I64" => 8,
            "F32" | "U32" | "I32" => 4,
            "F16" | "U16" | "I16" => 2,
            _ => 1,
        }
    }

    /// Gives it the first dimension that its data needs.
    pub(crate) fn fit(&mut self) {
        let row = self.shape.iter().skip(1).fold(self.width() as u64, |row, of| row.saturating_mul(*of));
        if let (Some(first), true) = (self.shape.first_mut(), row > 0) {
            *first = self.data.len() as u64 / row;
        }
    }
}
