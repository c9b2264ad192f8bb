-- A database for each server; run once, when the volume is new.
CREATE DATABASE prefect OWNER difflora;
CREATE DATABASE mlflow OWNER difflora;
