//! KServe's protocol over gRPC, on the same port as all else.

#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    rustdoc::all,
    unreachable_pub,
    reason = "generated: see proto/generate"
)]
#[rustfmt::skip]
mod inference;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::error::Refusal;
use crate::http::v2_rest::{EXTENSIONS, check_may_load, check_version, load_entry};
use crate::http::{Context, DIGEST_HEADER, MODEL_HEADER};
use crate::infer::Asked;
use crate::state::State;
use crate::v2::{
    Data, Datatype, INPUT, InputTensor, OUTPUTS, RequestedOutput, TensorError, answer, from_bytes,
    inputs, sides,
};
use inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer, SERVICE_NAME,
};
use inference::infer_parameter::ParameterChoice;
use inference::model_infer_request::InferInputTensor;
use inference::model_infer_response::InferOutputTensor;
use inference::model_metadata_response::TensorMetadata;
use inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};

/// The routes of the service.
pub(crate) fn routes(state: &Arc<State>) -> Router {
    let most = usize::try_from(state.options.limits.body).unwrap_or(usize::MAX);
    let service = GrpcInferenceServiceServer::new(Service(Arc::clone(state)));
    // What a reply holds follows from the request, which has a limit.
    let service = service
        .max_decoding_message_size(most)
        .max_encoding_message_size(usize::MAX);
    let path = format!("/{SERVICE_NAME}/{{*method}}");
    Router::new().route_service(&path, service)
}

struct Service(Arc<State>);

fn words(error: &(dyn std::error::Error + 'static)) -> Status {
    Refusal::bad_for(error).into()
}

fn deadline<T>(request: &Request<T>) -> Result<Context, Status> {
    let context = request.extensions().get::<Context>().cloned();
    context.ok_or_else(|| Status::internal("the request came by no gate"))
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.0.is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let entry = self.0.catalogue.find(Some(&name))?;
        let ready = entry.loaded().is_some_and(|generation| {
            version.is_empty() || check_version(&generation, &version).is_ok()
        });
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "keepbest".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: EXTENSIONS.map(Into::into).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let Context { deadline, .. } = deadline(&request)?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        let entry = self.0.catalogue.find(Some(&name))?;
        let generation = self.0.catalogue.ready(&entry, deadline).await?;
        if !version.is_empty() {
            check_version(&generation, &version)?;
        }
        let model = generation.model();
        let input = model.preprocessing.input;
        let sides = [input.channels, input.height, input.width].map(|side| side as i64);
        let outputs = OUTPUTS
            .iter()
            .map(|(name, datatype, is_of_classes)| TensorMetadata {
                name: (*name).into(),
                datatype: (*datatype).into(),
                shape: match is_of_classes {
                    true => vec![-1, model.classes.len() as i64],
                    false => vec![-1],
                },
            });
        Ok(Response::new(ModelMetadataResponse {
            name: entry.name.clone(),
            versions: vec![generation.weights.short()],
            platform: "keepbest".into(),
            inputs: vec![TensorMetadata {
                name: INPUT.into(),
                datatype: "FP32".into(),
                shape: std::iter::once(-1).chain(sides).collect(),
            }],
            outputs: outputs.collect(),
            properties: [("digest".to_owned(), generation.digest.clone())].into(),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let _pass = self.0.enter()?;
        let Context { deadline, hold } = deadline(&request)?;
        let request = request.into_inner();
        let deadline = match request.parameters.get("timeout").and_then(number) {
            Some(micros) if micros > 0 => {
                deadline.min(Instant::now() + Duration::from_micros(micros.min(1 << 40)))
            }
            _ => deadline,
        };
        let tensors = tensors(request.inputs, &request.raw_input_contents)?;
        let wanted: Vec<RequestedOutput> = request
            .outputs
            .into_iter()
            .map(|output| {
                let classification = output.parameters.get("classification").and_then(number);
                RequestedOutput::new(output.name, classification)
            })
            .collect();
        let entry = self.0.catalogue.find(Some(&request.model_name))?;
        let generation = self.0.catalogue.ready(&entry, deadline).await?;
        if !request.model_version.is_empty() {
            check_version(&generation, &request.model_version)?;
        }
        let coming = generation.queue.coming();
        let asked = Asked {
            state: Arc::clone(&self.0),
            generation: Arc::clone(&generation),
            hold,
            deadline,
        };
        let images = inputs(&asked, tensors).await?;
        let scores = asked.scores(images.values, coming).await?;
        let outputs = answer(&generation, &scores, &wanted, true)?;
        let digest = ParameterChoice::StringParam(generation.digest.clone());
        let digest = InferParameter {
            parameter_choice: Some(digest),
        };
        let reply = ModelInferResponse {
            model_name: entry.name.clone(),
            model_version: generation.weights.short(),
            id: request.id,
            parameters: [("digest".to_owned(), digest)].into(),
            raw_output_contents: outputs.iter().map(|output| output.bytes()).collect(),
            outputs: outputs
                .iter()
                .map(|output| InferOutputTensor {
                    name: output.name.clone(),
                    datatype: output.datatype().into(),
                    shape: output.shape.iter().map(|side| *side as i64).collect(),
                    ..InferOutputTensor::default()
                })
                .collect(),
        };
        let mut reply = Response::new(reply);
        for (name, value) in [
            (MODEL_HEADER, &entry.name),
            (DIGEST_HEADER, &generation.digest),
        ] {
            // A name that cannot stand in a header is in the reply.
            if let Ok(value) = MetadataValue::try_from(value) {
                reply.metadata_mut().insert(name, value);
            }
        }
        Ok(reply)
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        check_may_load(&self.0)?;
        let request = request.into_inner();
        let name = named(request.model_name, request.repository_name);
        let entry = self.0.catalogue.find(Some(&name))?;
        load_entry(&self.0, &entry).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        check_may_load(&self.0)?;
        let request = request.into_inner();
        let name = named(request.model_name, request.repository_name);
        let entry = self.0.catalogue.find(Some(&name))?;
        self.0.catalogue.unload(&entry).await;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

/// The model's name: KServe's client has it where Triton's has the repository's.
fn named(model: String, repository: String) -> String {
    match model.is_empty() {
        true => repository,
        false => model,
    }
}

fn number(parameter: &InferParameter) -> Option<u64> {
    match parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// The tensors of a request, their elements in the raw form or beside their shapes.
fn tensors(inputs: Vec<InferInputTensor>, raw: &[Bytes]) -> Result<Vec<InputTensor>, Status> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        let message = format!("{} inputs have {} raw contents", inputs.len(), raw.len());
        return Err(Refusal::bad(message).into());
    }
    let mut raw = raw.iter();
    let tensors = inputs.into_iter().map(|input| {
        let name = &input.name;
        let datatype = Datatype::parse(&input.datatype).ok_or_else(|| TensorError::Datatype {
            name: name.clone(),
            found: input.datatype.clone(),
        });
        let datatype = datatype.map_err(|error| words(&error))?;
        let tensor = match (raw.next(), input.contents) {
            (Some(_), Some(_)) => {
                let message = format!("input {name:?} has raw contents and others: one of the two");
                return Err(Refusal::bad(message).into());
            }
            (Some(bytes), None) => from_bytes(name, datatype, &input.shape, bytes),
            (None, contents) => typed(name, datatype, &input.shape, contents.unwrap_or_default()),
        };
        tensor.map_err(|error| words(&error))
    });
    tensors.collect()
}

fn typed(
    name: &str,
    datatype: Datatype,
    shape: &[i64],
    contents: InferTensorContents,
) -> Result<InputTensor, TensorError> {
    let (sides, expected) = sides(name, shape)?;
    let data = match datatype {
        Datatype::Fp32 => Data::Fp32(contents.fp32_contents),
        Datatype::Bytes => Data::Bytes(contents.bytes_contents),
        Datatype::Uint8 => {
            let pixels = contents.uint_contents.iter().enumerate();
            let pixels = pixels.map(|(index, &found)| {
                u8::try_from(found).map_err(|_| TensorError::NotAByte {
                    name: name.to_owned(),
                    index,
                    found: found as f32,
                })
            });
            Data::Uint8(pixels.collect::<Result<Vec<u8>, _>>()?.into())
        }
    };
    InputTensor::new(name, sides, expected, data)
}
