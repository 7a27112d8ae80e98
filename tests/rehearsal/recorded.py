"""Print the runs of a tracking server as JSON: their tags and status."""

import json
import sys

from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
runs = client.search_runs(experiments, max_results=1000)
print(json.dumps([{**r.data.tags, "id": r.info.run_id, "ended": r.info.status} for r in runs]))
