//! KServe's Open Inference Protocol, version 2: requests and replies as bytes, and what a model makes of them.
//!
//! The protocol: <https://github.com/kserve/open-inference-protocol>. The binary tensor extension is Triton's: after the JSON, whose
//! length is in the header `Inference-Header-Content-Length`, come the bytes of the tensors that say `binary_data_size`.

mod flat;
#[cfg(feature = "server")]
mod images;
#[cfg(feature = "server")]
mod outputs;
mod request;
#[cfg(feature = "server")]
mod response;
mod tensor;

pub use request::{InferRequest, RequestError, RequestedOutput, read_request};
pub use tensor::{Data, Datatype, InputTensor, TensorError, bytes_elements};

#[cfg(feature = "server")]
pub(crate) use {
    images::{INPUT, inputs},
    outputs::{OUTPUTS, answer},
    response::write_response,
    tensor::{from_bytes, sides},
};
