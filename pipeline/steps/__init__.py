"""A file a Dag, a function a task: the only place where logic meets stores. Runs without Airflow."""
