//! One file per function that scripts can call.

mod activations;
mod adapter;
mod answers;
mod ask;
mod ask_batch;
mod asked_judges;
mod at_epoch;
mod audit;
mod build_objective;
mod choices;
mod compare_judges;
mod concat_datasets;
pub mod dataset;
mod direction;
mod directional_penalty;
mod draw;
mod estimate_mean;
mod evaluate;
mod evaluate_probe;
mod evaluation;
mod ewc;
mod export_answers;
mod export_dataset;
mod export_inspect;
mod import_scores;
mod inoculate;
mod insert_trigger;
mod intervals;
mod judges;
mod judging;
pub mod launch_finetune;
pub mod launch_job;
pub mod library;
mod likelihoods;
pub mod load_model;
mod mean_loss;
mod missing;
mod mix_dataset;
pub mod model;
mod model_activations;
mod objective;
mod organism_questions;
mod organism_rows;
mod plot;
mod power;
mod pretrain_organism;
mod probe;
mod probe_controls;
mod probe_fits;
mod probe_method;
mod probe_path;
mod provenance;
mod read_values;
mod report;
mod rescore;
mod results;
mod safe_lora;
mod save_adapter;
mod save_model;
mod section;
mod setting;
mod simnpo;
mod split_dataset;
mod steer;
mod steer_weights;
mod stored_values;
mod summarize;
mod sweep;
mod synthetic_activations;
mod till;
mod trace_rows;
mod train_probe;
pub mod train_resumably;
mod trigger_config;

use crate::lab::Lab;
use crate::script::declaration::Primitive;
use crate::script::handle::HandleType;

/// Every function that scripts can call, in the order of the manual.
pub fn all() -> Vec<Primitive<Lab>> {
    let mut all = vec![
        dataset::primitive(),
        organism_rows::primitive(),
        mix_dataset::primitive(),
        concat_datasets::primitive(),
        inoculate::primitive(),
        insert_trigger::trigger_primitive(),
        insert_trigger::primitive(),
        export_dataset::primitive(),
        trace_rows::primitive(),
        load_model::primitive(),
        adapter::primitive(),
        launch_finetune::primitive(),
        launch_finetune::full_primitive(),
        launch_finetune::lora_primitive(),
        at_epoch::primitive(),
        mean_loss::primitive(),
        mean_loss::prefix_primitive(),
        likelihoods::primitive(),
        likelihoods::answers_primitive(),
        evaluation::questions_primitive(),
        organism_questions::primitive(),
        evaluation::primitive(),
        evaluation::score_primitive(),
        judges::grammar_primitive(),
        judges::pattern_primitive(),
        judges::exact_primitive(),
        judges::choice_primitive(),
        judges::classifier_primitive(),
        asked_judges::rating_primitive(),
        asked_judges::probability_primitive(),
        asked_judges::categorical_primitive(),
        asked_judges::fused_primitive(),
        evaluate::primitive(),
        rescore::primitive(),
        sweep::primitive(),
        plot::primitive(),
        report::primitive(),
        estimate_mean::primitive(),
        power::primitive(),
        power::seeds_primitive(),
        compare_judges::primitive(),
        compare_judges::near_primitive(),
        export_answers::primitive(),
        export_inspect::primitive(),
        import_scores::primitive(),
        setting::primitive(),
        library::primitive(),
        pretrain_organism::primitive(),
        save_model::primitive(),
        save_adapter::primitive(),
        steer_weights::primitive(),
        safe_lora::primitive(),
        steer::primitive(),
        activations::primitive(),
        activations::split_primitive(),
        model_activations::primitive(),
        model_activations::layers_primitive(),
        synthetic_activations::primitive(),
        audit::primitive(),
        audit::texts_primitive(),
        train_probe::primitive(),
        probe_path::primitive(),
    ];
    all.extend(objective::primitives());
    all.extend([ewc::primitive(), simnpo::primitive(), directional_penalty::primitive()]);
    all.extend(direction::primitives());
    all.extend(split_dataset::primitives());
    all.extend(intervals::primitives());
    all.extend(probe_method::primitives());
    all.extend([
        evaluate_probe::primitive(),
        evaluate_probe::compare_primitive(),
        probe_controls::negative_primitive(),
        probe_controls::unseen_primitive(),
        probe::save_primitive(),
        probe::load_primitive(),
        draw::primitive(),
        draw::json_primitive(),
        draw::text_primitive(),
        read_values::json_primitive(),
        read_values::config_primitive(),
        trigger_config::primitive(),
        read_values::jsonl_primitive(),
        read_values::yaml_primitive(),
        read_values::lines_primitive(),
        draw::fixed_primitive(),
    ]);
    all
}

/// Every type of handle that scripts can hold.
pub fn handles() -> Vec<HandleType> {
    let mut types = vec![
        dataset::handle_type(),
        insert_trigger::handle_type(),
        model::handle_type(),
        launch_finetune::handle_type(),
        judges::handle_type(),
        setting::handle_type(),
        results::handle_type(),
        sweep::handle_type(),
        plot::handle_type(),
        intervals::handle_type(),
        likelihoods::handle_type(),
        activations::handle_type(),
        probe::handle_type(),
        evaluate_probe::handle_type(),
    ];
    types.push(objective::handle_type());
    types.extend(direction::handle_types());
    types.extend(evaluation::handle_types());
    types.extend(probe_method::handle_types());
    types
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::manual::schema_fingerprint;
    use crate::script::registry::assert_registry_is_sound;

    #[test]
    fn the_registry_is_sound() {
        assert_registry_is_sound(&all());
    }

    #[test]
    fn declarations_are_what_scripts_rely_on() {
        insta::assert_json_snapshot!("declarations", schema_fingerprint(&all()));
    }
}
