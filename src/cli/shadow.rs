//! What a running server tells of its shadow model, for a person.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use crate::service::pb::admin_service_client::AdminServiceClient;
use crate::service::pb::{GetShadowReportRequest, GetShadowReportResponse};

/// Asks the server at `address` and prints where the two models differ, by pairs of labels.
pub(super) fn show(address: &str, token: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let report = runtime.block_on(report(address, token)).with_context(|| format!("server {address}"))?;
    print(&report)
}

async fn report(address: &str, token: Option<&Path>) -> anyhow::Result<GetShadowReportResponse> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut request = Request::new(GetShadowReportRequest {});
    if let Some(file) = token {
        let token = std::fs::read_to_string(file).with_context(|| format!("token {}", file.display()))?;
        let value =
            MetadataValue::try_from(format!("Bearer {}", token.trim())).context("the token has characters that no header has")?;
        request.metadata_mut().insert("authorization", value);
    }
    let answered = AdminServiceClient::new(channel).get_shadow_report(request).await;
    let told = |status: &Status| match status.code() == Code::Unimplemented {
        true => "no AdminService there; it is where the server was told to listen by --admin-listen".to_owned(),
        false => status.message().to_owned(),
    };
    answered.map(tonic::Response::into_inner).map_err(|status| anyhow::Error::msg(told(&status)))
}

fn print(report: &GetShadowReportResponse) -> anyhow::Result<()> {
    let GetShadowReportResponse { model, shadow_model, articles, skipped, heads, .. } = report;
    let mut out = anstream::stdout().lock();
    writeln!(out, "answers  {model}\nshadow   {shadow_model}\n{articles} articles compared, {skipped} skipped")?;
    for head in heads {
        let share = |count: i64| {
            #[expect(clippy::cast_precision_loss, reason = "a share for a person to read")]
            let share = if *articles > 0 { 100.0 * count as f64 / *articles as f64 } else { 0.0 };
            share
        };
        writeln!(out, "\n{}: {} different ({:.2} %)", head.name, head.different, share(head.different))?;
        for pair in &head.pairs {
            let name = |label: &str| if label.is_empty() { "none".to_owned() } else { label.to_owned() };
            let (label, shadow) = (name(&pair.label), name(&pair.shadow_label));
            let mark = if label == shadow { ' ' } else { '≠' };
            writeln!(out, "  {label:<24} {mark} {shadow:<24} {:>10} {:>7.2} %", pair.articles, share(pair.articles))?;
        }
    }
    Ok(())
}
