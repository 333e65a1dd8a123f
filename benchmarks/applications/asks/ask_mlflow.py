import mlflow
from common import HTTP, get

get("/", "MLflow")
mlflow.set_tracking_uri(HTTP)
mlflow.set_experiment("of this run")
with mlflow.start_run():
    mlflow.log_metric("loss", 0.5)
assert len(mlflow.search_runs(experiment_names=["of this run"])) >= 1
