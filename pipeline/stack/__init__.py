"""
The embedded stack: Airflow and the servers beside it, as processes of this machine.

`secrets` are made once for a home folder, `environment` turns settings into Airflow's own, `processes` start and
stop in groups, `airflow_api` asks and tells, `embedded` puts these together, `restate` runs a range of days.
"""
