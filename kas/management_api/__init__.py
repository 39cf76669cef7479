"""DOOR for jobs and operators over HTTPS: kubeconfigs."""
