"""`python -m pipeline.cli.feature_server`: the feature server of `interest up`. Ready when GET /health answers 200."""

if __name__ == "__main__":
    from pipeline.partitions import utc_now
    from pipeline.serving.feature_server import serve_features
    from pipeline.settings import Settings

    serve_features(Settings.load(), utc_now)
