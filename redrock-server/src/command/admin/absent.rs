//! What Redis answers without cluster mode and modules: CLUSTER, READONLY, READWRITE, ASKING,
//! MODULE.

use crate::command::table::{Group, Spec, acl as category, flag};
use crate::command::{Args, CommandError, CommandResult, Context};

const NO_CLUSTER: CommandError =
    CommandError::fixed("ERR This instance has cluster support disabled");

/// Flags of what changes a cluster, looks at it, is answered in every state, loads code.
const CHANGES: u32 = flag::NO_ASYNC_LOADING | flag::ADMIN | flag::STALE;
const LOOKS: u32 = flag::ADMIN | flag::STALE;
const ALWAYS: u32 = flag::LOADING | flag::STALE;
const LOADS_CODE: u32 = flag::NO_ASYNC_LOADING | flag::ADMIN | flag::NOSCRIPT | flag::PROTECTED;

/// Records of one group: name, arity, flags, handler, first version, summary.
macro_rules! records {
    ($group:ident; $(
        $name:literal, $arity:literal, $flags:expr, $handler:ident, $since:literal, $text:literal;
    )*) => {
        &[$(Spec::new($name, $arity, $flags, $handler).group(Group::$group).doc($since, $text)),*]
    };
}

/// CLUSTER and its subcommands.
pub(super) const CLUSTER: Spec = Spec::new("cluster", -2, 0, no_cluster)
    .group(Group::Cluster)
    .doc("3.0.0", "A container for Redis Cluster commands.")
    .sub(CLUSTER_SUBCOMMANDS);

const CLUSTER_SUBCOMMANDS: &[Spec] = records! { Cluster;
    "cluster|addslots", -3, CHANGES, no_cluster,
        "3.0.0", "Assigns new hash slots to a node.";
    "cluster|addslotsrange", -4, CHANGES, no_cluster,
        "7.0.0", "Assigns new hash slot ranges to a node.";
    "cluster|bumpepoch", 2, CHANGES, no_cluster,
        "3.0.0", "Advances the cluster config epoch.";
    "cluster|count-failure-reports", 3, LOOKS, no_cluster,
        "3.0.0", "Returns the number of active failure reports active for a node.";
    "cluster|countkeysinslot", 3, flag::STALE, no_cluster,
        "3.0.0", "Returns the number of keys in a hash slot.";
    "cluster|delslots", -3, CHANGES, no_cluster,
        "3.0.0", "Sets hash slots as unbound for a node.";
    "cluster|delslotsrange", -4, CHANGES, no_cluster,
        "7.0.0", "Sets hash slot ranges as unbound for a node.";
    "cluster|failover", -2, CHANGES, no_cluster,
        "3.0.0", "Forces a replica to perform a manual failover of its master.";
    "cluster|flushslots", 2, CHANGES, no_cluster,
        "3.0.0", "Deletes all slots information from a node.";
    "cluster|forget", 3, CHANGES, no_cluster,
        "3.0.0", "Removes a node from the nodes table.";
    "cluster|getkeysinslot", 4, flag::STALE, no_cluster,
        "3.0.0", "Returns the key names in a hash slot.";
    "cluster|help", 2, ALWAYS, no_cluster,
        "5.0.0", "Returns helpful text about the different subcommands.";
    "cluster|info", 2, flag::STALE, no_cluster,
        "3.0.0", "Returns information about the state of a node.";
    "cluster|keyslot", 3, flag::STALE, no_cluster,
        "3.0.0", "Returns the hash slot for a key.";
    "cluster|links", 2, flag::STALE, no_cluster,
        "7.0.0", "Returns a list of all TCP links to and from peer nodes.";
    "cluster|meet", -4, CHANGES, no_cluster,
        "3.0.0", "Forces a node to handshake with another node.";
    "cluster|myid", 2, flag::STALE, no_cluster,
        "3.0.0", "Returns the ID of a node.";
    "cluster|myshardid", 2, flag::STALE, no_cluster,
        "7.2.0", "Returns the shard ID of a node.";
    "cluster|nodes", 2, flag::STALE, no_cluster,
        "3.0.0", "Returns the cluster configuration for a node.";
    "cluster|replicas", 3, LOOKS, no_cluster,
        "5.0.0", "Lists the replica nodes of a master node.";
    "cluster|replicate", 3, CHANGES, no_cluster,
        "3.0.0", "Configure a node as replica of a master node.";
    "cluster|reset", -2, LOOKS | flag::NOSCRIPT, no_cluster,
        "3.0.0", "Resets a node.";
    "cluster|saveconfig", 2, CHANGES, no_cluster,
        "3.0.0", "Forces a node to save the cluster configuration to disk.";
    "cluster|set-config-epoch", 3, CHANGES, no_cluster,
        "3.0.0", "Sets the configuration epoch for a new node.";
    "cluster|setslot", -4, CHANGES, no_cluster,
        "3.0.0", "Binds a hash slot to a node.";
    "cluster|shards", 2, ALWAYS, no_cluster,
        "7.0.0", "Returns the mapping of cluster slots to shards.";
    "cluster|slaves", 3, LOOKS, no_cluster,
        "3.0.0", "Lists the replica nodes of a master node.";
    "cluster|slots", 2, ALWAYS, no_cluster,
        "3.0.0", "Returns the mapping of cluster slots to nodes.";
};

/// READONLY.
pub(super) const READONLY: Spec = Spec::new("readonly", 1, flag::FAST | ALWAYS, no_cluster)
    .group(Group::Cluster)
    .acl(category::CONNECTION)
    .doc(
        "3.0.0",
        "Enables read-only queries for a connection to a Redis Cluster replica node.",
    );

/// READWRITE.
pub(super) const READWRITE: Spec = Spec::new("readwrite", 1, flag::FAST | ALWAYS, no_cluster)
    .group(Group::Cluster)
    .acl(category::CONNECTION)
    .doc(
        "3.0.0",
        "Enables read-write queries for a connection to a Reids Cluster replica node.",
    );

/// ASKING.
pub(super) const ASKING: Spec = Spec::new("asking", 1, flag::FAST, no_cluster)
    .group(Group::Cluster)
    .acl(category::CONNECTION)
    .doc(
        "3.0.0",
        "Signals that a cluster client is following an -ASK redirect.",
    );

/// MODULE and its subcommands.
pub(super) const MODULE: Spec = Spec::new("module", -2, 0, module_help)
    .group(Group::Server)
    .doc("4.0.0", "A container for module commands.")
    .sub(MODULE_SUBCOMMANDS);

const MODULE_SUBCOMMANDS: &[Spec] = records! { Server;
    "module|help", 2, ALWAYS, module_help,
        "5.0.0", "Returns helpful text about the different subcommands.";
    "module|list", 2, flag::ADMIN | flag::NOSCRIPT, module_list,
        "4.0.0", "Returns all loaded modules.";
    "module|load", -3, LOADS_CODE, no_modules,
        "4.0.0", "Loads a module.";
    "module|loadex", -3, LOADS_CODE, no_modules,
        "7.0.0", "Loads a module using extended parameters.";
    "module|unload", 3, LOADS_CODE, no_modules,
        "4.0.0", "Unloads a module.";
};

fn no_cluster(_ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    Err(NO_CLUSTER)
}

fn module_list(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.array(0);
    Ok(())
}

/// Never reached while MODULE LOAD is refused before it runs.
fn no_modules(_ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    Err(CommandError::fixed("ERR Modules are not supported"))
}

fn module_help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(
        ctx,
        "MODULE",
        &[
            "LIST",
            "    Return a list of loaded modules.",
            "LOAD <path> [<arg> ...]",
            "    Load a module library from <path>, passing to it any optional arguments.",
            "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
            "    Load a module library from <path>, while passing it module configurations and optional arguments.",
            "UNLOAD <name>",
            "    Unload a module.",
        ],
    )
}
