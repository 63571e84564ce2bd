"""The part of `huggingface_hub` that is used, over folders of this machine."""

import types


class Refused(Exception):
    """An answer of the hub that is an error."""

    response = "404"


class StubHub:
    """Repositories as folders: name -> list of commits, each a dict of files.

    Attributes:
      repos: `org/name` -> its commits, the newest last.
      fetched: (file, revision) of every file that was sent.
      is_there: whether the hub answers.
    """

    def __init__(self, cache):
        self.repos, self.fetched, self.is_there, self._cache = {}, [], True, cache
        self.sizes, self._named = {}, {}

    @property
    def module(self):
        """In place of the library."""
        return types.SimpleNamespace(
            HfApi=lambda: self,
            hf_hub_download=self.download,
            CommitOperationAdd=lambda path_in_repo, path_or_fileobj: (
                path_in_repo,
                path_or_fileobj,
            ),
        )

    def _commit(self, repo, revision):
        commits = self.repos.get(repo, [])
        number = len(commits) - 1 if revision is None else int(revision.removeprefix("commit"))
        if not 0 <= number < len(commits):
            raise Refused("Repository or revision not found\nmore")
        return number, commits[number]

    def model_info(self, repo, revision=None, files_metadata=False):
        assert files_metadata
        if not self.is_there:
            raise ConnectionError("no network")
        number, files = self._commit(repo, revision)
        siblings = [
            types.SimpleNamespace(rfilename=name, size=self.sizes.get(name, len(data)))
            for name, data in files.items()
        ]
        return types.SimpleNamespace(sha=f"commit{number}", siblings=siblings)

    def download(self, repo, name, revision=None, local_files_only=False):
        if local_files_only:
            path = self._cache / repo / self._named.get((repo, revision), str(revision)) / name
            if not path.exists():
                raise FileNotFoundError(name)
            return str(path)
        number, files = self._commit(repo, revision)
        self.fetched.append((name, revision))
        # As the library does: a name is known that something was fetched by.
        self._named[repo, revision] = f"commit{number}"
        path = self._cache / repo / f"commit{number}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])
        return str(path)

    def create_repo(self, repo, private=None, exist_ok=False):
        assert exist_ok
        self.private = private
        self.repos.setdefault(repo, [])

    def create_commit(self, repo, operations, commit_message, revision=None):
        self.message = commit_message
        before = self.repos[repo][-1] if self.repos[repo] else {}
        self.repos[repo].append(before | dict(operations))
        return types.SimpleNamespace(oid=f"commit{len(self.repos[repo]) - 1}")
