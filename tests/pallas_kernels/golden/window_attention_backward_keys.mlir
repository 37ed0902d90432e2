// 8 warps, 2 stages
module @window_attention_backward_keys {
  tt.func public @window_attention_backward_keys(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg6: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg7: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg8: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg9: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg10: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg11: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg12: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg13: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg14: !tt.ptr<f32> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<64> : tensor<64xi32>
    %cst_0 = arith.constant dense<256> : tensor<64xi32>
    %cst_1 = arith.constant dense<65536> : tensor<64xi32>
    %cst_2 = arith.constant dense<0.000000e+00> : tensor<128xf32>
    %cst_3 = arith.constant dense<64> : tensor<128x64xi32>
    %cst_4 = arith.constant dense<65536> : tensor<128x64xi32>
    %cst_5 = arith.constant dense<1024> : tensor<128xi32>
    %cst_6 = arith.constant dense<0.693147182> : tensor<128x64xf32>
    %cst_7 = arith.constant dense<1.000000e+00> : tensor<128x64xf32>
    %cst_8 = arith.constant dense<0.000000e+00> : tensor<1x64xf32>
    %cst_9 = arith.constant dense<-1.000000e+30> : tensor<128x64xf32>
    %cst_10 = arith.constant dense<200> : tensor<128xi32>
    %cst_11 = arith.constant dense<-536870912> : tensor<128xi32>
    %cst_12 = arith.constant dense<100> : tensor<128xi32>
    %cst_13 = arith.constant dense<0.000000e+00> : tensor<64xf32>
    %cst_14 = arith.constant dense<1024> : tensor<64xi32>
    %cst_15 = arith.constant dense<4096> : tensor<64xi32>
    %cst_16 = arith.constant dense<0.000000e+00> : tensor<64x128xbf16>
    %cst_17 = arith.constant dense<128> : tensor<64x128xi32>
    %cst_18 = arith.constant dense<512> : tensor<64x128xi32>
    %cst_19 = arith.constant dense<524288> : tensor<64x128xi32>
    %cst_20 = arith.constant dense<0.000000e+00> : tensor<64x64xbf16>
    %cst_21 = arith.constant dense<128> : tensor<64x64xi32>
    %cst_22 = arith.constant dense<512> : tensor<64x64xi32>
    %cst_23 = arith.constant dense<524288> : tensor<64x64xi32>
    %c63_i32 = arith.constant 63 : i32
    %c228_i32 = arith.constant 228 : i32
    %cst_24 = arith.constant dense<0.000000e+00> : tensor<128x128xf32>
    %cst_25 = arith.constant dense<0.000000e+00> : tensor<128x64xf32>
    %cst_26 = arith.constant dense<0.000000e+00> : tensor<128x128xbf16>
    %cst_27 = arith.constant dense<128> : tensor<128x128xi32>
    %cst_28 = arith.constant dense<512> : tensor<128x128xi32>
    %cst_29 = arith.constant dense<524288> : tensor<128x128xi32>
    %cst_30 = arith.constant dense<0.000000e+00> : tensor<128x64xbf16>
    %cst_31 = arith.constant dense<128> : tensor<128x64xi32>
    %cst_32 = arith.constant dense<512> : tensor<128x64xi32>
    %cst_33 = arith.constant dense<524288> : tensor<128x64xi32>
    %c100_i32 = arith.constant 100 : i32
    %c64_i32 = arith.constant 64 : i32
    %c128_i32 = arith.constant 128 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %c8_i32 = arith.constant 8 : i32
    %0 = tt.get_program_id x : i32
    %1 = arith.remui %0, %c8_i32 : i32
    %2 = tt.get_program_id y : i32
    %3 = tt.get_program_id z : i32
    %4 = tt.addptr %arg0, %3 : !tt.ptr<i32>, i32
    %5 = tt.load %4 : !tt.ptr<i32>
    %6 = arith.muli %1, %c128_i32 : i32
    %7 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %8 = tt.splat %6 : i32 -> tensor<128xi32>
    %9 = arith.addi %8, %7 : tensor<128xi32>
    %10 = tt.splat %5 : i32 -> tensor<128xi32>
    %11 = arith.cmpi slt, %9, %10 : tensor<128xi32>
    %12 = tt.expand_dims %11 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %13 = tt.broadcast %12 : tensor<128x1xi1> -> tensor<128x64xi1>
    %14 = tt.splat %3 : i32 -> tensor<128x64xi32>
    %15 = arith.muli %14, %cst_33 : tensor<128x64xi32>
    %16 = tt.expand_dims %9 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
    %17 = tt.broadcast %16 : tensor<128x1xi32> -> tensor<128x64xi32>
    %18 = arith.muli %17, %cst_32 : tensor<128x64xi32>
    %19 = arith.addi %15, %18 : tensor<128x64xi32>
    %20 = tt.splat %2 : i32 -> tensor<128x64xi32>
    %21 = arith.muli %20, %cst_31 : tensor<128x64xi32>
    %22 = arith.addi %19, %21 : tensor<128x64xi32>
    %23 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %24 = tt.expand_dims %23 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
    %25 = tt.broadcast %24 : tensor<1x64xi32> -> tensor<128x64xi32>
    %26 = arith.addi %22, %25 : tensor<128x64xi32>
    %27 = tt.splat %arg2 : !tt.ptr<bf16> -> tensor<128x64x!tt.ptr<bf16>>
    %28 = tt.addptr %27, %26 : tensor<128x64x!tt.ptr<bf16>>, tensor<128x64xi32>
    %29 = tt.load %28, %13, %cst_30 : tensor<128x64x!tt.ptr<bf16>>
    %30 = tt.make_range {end = 128 : i32, start = 64 : i32} : tensor<64xi32>
    %31 = tt.expand_dims %30 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
    %32 = tt.broadcast %31 : tensor<1x64xi32> -> tensor<128x64xi32>
    %33 = arith.addi %22, %32 : tensor<128x64xi32>
    %34 = tt.addptr %27, %33 : tensor<128x64x!tt.ptr<bf16>>, tensor<128x64xi32>
    %35 = tt.load %34, %13, %cst_30 : tensor<128x64x!tt.ptr<bf16>>
    %36 = tt.broadcast %12 : tensor<128x1xi1> -> tensor<128x128xi1>
    %37 = tt.splat %3 : i32 -> tensor<128x128xi32>
    %38 = arith.muli %37, %cst_29 : tensor<128x128xi32>
    %39 = tt.broadcast %16 : tensor<128x1xi32> -> tensor<128x128xi32>
    %40 = arith.muli %39, %cst_28 : tensor<128x128xi32>
    %41 = arith.addi %38, %40 : tensor<128x128xi32>
    %42 = tt.splat %2 : i32 -> tensor<128x128xi32>
    %43 = arith.muli %42, %cst_27 : tensor<128x128xi32>
    %44 = arith.addi %41, %43 : tensor<128x128xi32>
    %45 = tt.expand_dims %7 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %46 = tt.broadcast %45 : tensor<1x128xi32> -> tensor<128x128xi32>
    %47 = arith.addi %44, %46 : tensor<128x128xi32>
    %48 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %49 = tt.addptr %48, %47 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %50 = tt.load %49, %36, %cst_26 : tensor<128x128x!tt.ptr<bf16>>
    %51 = arith.subi %6, %c100_i32 : i32
    %52 = arith.maxsi %51, %c0_i32 : i32
    %53 = arith.divsi %52, %c64_i32 : i32
    %54 = arith.cmpi sgt, %52, %c0_i32 : i32
    %55 = arith.extui %54 : i1 to i32
    %56 = arith.cmpi slt, %52, %c0_i32 : i32
    %57 = arith.extui %56 : i1 to i32
    %58 = arith.subi %55, %57 : i32
    %59 = arith.cmpi ne, %58, %c1_i32 : i32
    %60 = arith.remsi %52, %c64_i32 : i32
    %61 = arith.cmpi ne, %60, %c0_i32 : i32
    %62 = arith.andi %59, %61 : i1
    %63 = arith.subi %53, %c1_i32 : i32
    %64 = arith.select %62, %63, %53 : i32
    %65 = arith.addi %6, %c228_i32 : i32
    %66 = arith.minsi %65, %5 : i32
    %67 = arith.addi %66, %c63_i32 : i32
    %68 = arith.divsi %67, %c64_i32 : i32
    %69 = arith.cmpi sgt, %67, %c0_i32 : i32
    %70 = arith.extui %69 : i1 to i32
    %71 = arith.cmpi slt, %67, %c0_i32 : i32
    %72 = arith.extui %71 : i1 to i32
    %73 = arith.subi %70, %72 : i32
    %74 = arith.cmpi ne, %73, %c1_i32 : i32
    %75 = arith.remsi %67, %c64_i32 : i32
    %76 = arith.cmpi ne, %75, %c0_i32 : i32
    %77 = arith.andi %74, %76 : i1
    %78 = arith.subi %68, %c1_i32 : i32
    %79 = arith.select %77, %78, %68 : i32
    %80 = arith.cmpi slt, %6, %5 : i32
    %81 = arith.select %80, %79, %64 : i32
    %82:3 = scf.for %arg15 = %64 to %81 step %c1_i32 iter_args(%arg16 = %cst_25, %arg17 = %cst_25, %arg18 = %cst_24) -> (tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x128xf32>)  : i32 {
      %168 = arith.muli %arg15, %c64_i32 : i32
      %169 = tt.splat %168 : i32 -> tensor<64xi32>
      %170 = arith.addi %169, %23 : tensor<64xi32>
      %171 = tt.splat %5 : i32 -> tensor<64xi32>
      %172 = arith.cmpi slt, %170, %171 : tensor<64xi32>
      %173 = tt.expand_dims %172 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
      %174 = tt.broadcast %173 : tensor<64x1xi1> -> tensor<64x64xi1>
      %175 = tt.splat %3 : i32 -> tensor<64x64xi32>
      %176 = arith.muli %175, %cst_23 : tensor<64x64xi32>
      %177 = tt.expand_dims %170 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %178 = tt.broadcast %177 : tensor<64x1xi32> -> tensor<64x64xi32>
      %179 = arith.muli %178, %cst_22 : tensor<64x64xi32>
      %180 = arith.addi %176, %179 : tensor<64x64xi32>
      %181 = tt.splat %2 : i32 -> tensor<64x64xi32>
      %182 = arith.muli %181, %cst_21 : tensor<64x64xi32>
      %183 = arith.addi %180, %182 : tensor<64x64xi32>
      %184 = tt.broadcast %24 : tensor<1x64xi32> -> tensor<64x64xi32>
      %185 = arith.addi %183, %184 : tensor<64x64xi32>
      %186 = tt.splat %arg1 : !tt.ptr<bf16> -> tensor<64x64x!tt.ptr<bf16>>
      %187 = tt.addptr %186, %185 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
      %188 = tt.load %187, %174, %cst_20 : tensor<64x64x!tt.ptr<bf16>>
      %189 = tt.broadcast %31 : tensor<1x64xi32> -> tensor<64x64xi32>
      %190 = arith.addi %183, %189 : tensor<64x64xi32>
      %191 = tt.addptr %186, %190 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
      %192 = tt.load %191, %174, %cst_20 : tensor<64x64x!tt.ptr<bf16>>
      %193 = tt.broadcast %173 : tensor<64x1xi1> -> tensor<64x128xi1>
      %194 = tt.splat %3 : i32 -> tensor<64x128xi32>
      %195 = arith.muli %194, %cst_19 : tensor<64x128xi32>
      %196 = tt.broadcast %177 : tensor<64x1xi32> -> tensor<64x128xi32>
      %197 = arith.muli %196, %cst_18 : tensor<64x128xi32>
      %198 = arith.addi %195, %197 : tensor<64x128xi32>
      %199 = tt.splat %2 : i32 -> tensor<64x128xi32>
      %200 = arith.muli %199, %cst_17 : tensor<64x128xi32>
      %201 = arith.addi %198, %200 : tensor<64x128xi32>
      %202 = tt.broadcast %45 : tensor<1x128xi32> -> tensor<64x128xi32>
      %203 = arith.addi %201, %202 : tensor<64x128xi32>
      %204 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %205 = tt.addptr %204, %203 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %206 = tt.load %205, %193, %cst_16 : tensor<64x128x!tt.ptr<bf16>>
      %207 = tt.splat %3 : i32 -> tensor<64xi32>
      %208 = arith.muli %207, %cst_15 : tensor<64xi32>
      %209 = tt.splat %2 : i32 -> tensor<64xi32>
      %210 = arith.muli %209, %cst_14 : tensor<64xi32>
      %211 = arith.addi %208, %210 : tensor<64xi32>
      %212 = arith.addi %211, %170 : tensor<64xi32>
      %213 = tt.splat %arg5 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
      %214 = tt.addptr %213, %212 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
      %215 = tt.load %214, %172, %cst_13 : tensor<64x!tt.ptr<f32>>
      %216 = tt.splat %arg6 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
      %217 = tt.addptr %216, %212 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
      %218 = tt.load %217, %172, %cst_13 : tensor<64x!tt.ptr<f32>>
      %219 = arith.subi %9, %cst_12 : tensor<128xi32>
      %220 = arith.select %11, %219, %cst_11 : tensor<128xi1>, tensor<128xi32>
      %221 = arith.subi %5, %c1_i32 : i32
      %222 = tt.splat %221 : i32 -> tensor<128xi32>
      %223 = arith.subi %222, %220 : tensor<128xi32>
      %224 = arith.minsi %223, %cst_10 : tensor<128xi32>
      %225 = tt.expand_dims %170 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
      %226 = tt.expand_dims %220 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %227 = tt.broadcast %225 : tensor<1x64xi32> -> tensor<128x64xi32>
      %228 = tt.broadcast %226 : tensor<128x1xi32> -> tensor<128x64xi32>
      %229 = arith.subi %227, %228 : tensor<128x64xi32>
      %230 = tt.expand_dims %224 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %231 = tt.broadcast %230 : tensor<128x1xi32> -> tensor<128x64xi32>
      %232 = arith.cmpi ule, %229, %231 : tensor<128x64xi32>
      %233 = tt.trans %188 {order = array<i32: 1, 0>} : tensor<64x64xbf16> -> tensor<64x64xbf16>
      %234 = tt.dot %29, %233, %cst_25, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x64xbf16> -> tensor<128x64xf32>
      %235 = tt.trans %192 {order = array<i32: 1, 0>} : tensor<64x64xbf16> -> tensor<64x64xbf16>
      %236 = tt.dot %35, %235, %cst_25, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x64xbf16> -> tensor<128x64xf32>
      %237 = arith.addf %234, %236 : tensor<128x64xf32>
      %238 = arith.select %232, %237, %cst_9 : tensor<128x64xi1>, tensor<128x64xf32>
      %239 = tt.expand_dims %215 {axis = 0 : i32} : tensor<64xf32> -> tensor<1x64xf32>
      %240 = arith.subf %cst_8, %239 : tensor<1x64xf32>
      %241 = tt.broadcast %240 : tensor<1x64xf32> -> tensor<128x64xf32>
      %242 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %238, %cst_7, %241 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %243 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %242 : tensor<128x64xf32> -> tensor<128x64xf32>
      %244 = arith.truncf %243 : tensor<128x64xf32> to tensor<128x64xbf16>
      %245 = tt.dot %244, %206, %cst_24, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x128xbf16> -> tensor<128x128xf32>
      %246 = arith.addf %arg18, %245 : tensor<128x128xf32>
      %247 = tt.trans %206 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %248 = tt.dot %50, %247, %cst_25, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x64xbf16> -> tensor<128x64xf32>
      %249 = tt.expand_dims %218 {axis = 0 : i32} : tensor<64xf32> -> tensor<1x64xf32>
      %250 = tt.broadcast %249 : tensor<1x64xf32> -> tensor<128x64xf32>
      %251 = arith.subf %248, %250 : tensor<128x64xf32>
      %252 = arith.mulf %243, %251 : tensor<128x64xf32>
      %253 = arith.truncf %252 : tensor<128x64xf32> to tensor<128x64xbf16>
      %254 = tt.dot %253, %188, %cst_25, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x64xbf16> -> tensor<128x64xf32>
      %255 = arith.addf %arg16, %254 : tensor<128x64xf32>
      %256 = tt.dot %253, %192, %cst_25, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x64xbf16> -> tensor<128x64xf32>
      %257 = arith.addf %arg17, %256 : tensor<128x64xf32>
      scf.yield %255, %257, %246 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x128xf32>
    }
    %83 = arith.mulf %82#0, %cst_6 : tensor<128x64xf32>
    %84 = arith.mulf %82#1, %cst_6 : tensor<128x64xf32>
    %85 = arith.cmpi slt, %9, %cst_5 : tensor<128xi32>
    %86 = tt.expand_dims %85 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %87 = tt.broadcast %86 : tensor<128x1xi1> -> tensor<128x128xi1>
    %88 = arith.truncf %82#2 : tensor<128x128xf32> to tensor<128x128xbf16>
    %89 = tt.splat %arg11 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %90 = tt.addptr %89, %47 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    tt.store %90, %88, %87 : tensor<128x128x!tt.ptr<bf16>>
    %91 = arith.minsi %5, %c0_i32 : i32
    %92 = arith.addi %6, %91 : i32
    %93 = tt.splat %92 : i32 -> tensor<128xi32>
    %94 = arith.addi %93, %7 : tensor<128xi32>
    %95 = arith.cmpi slt, %94, %10 : tensor<128xi32>
    %96 = tt.expand_dims %95 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %97 = tt.broadcast %96 : tensor<128x1xi1> -> tensor<128x64xi1>
    %98 = arith.muli %14, %cst_4 : tensor<128x64xi32>
    %99 = tt.expand_dims %94 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
    %100 = tt.broadcast %99 : tensor<128x1xi32> -> tensor<128x64xi32>
    %101 = arith.muli %100, %cst_3 : tensor<128x64xi32>
    %102 = arith.addi %98, %101 : tensor<128x64xi32>
    %103 = arith.addi %102, %25 : tensor<128x64xi32>
    %104 = tt.splat %arg7 : !tt.ptr<f32> -> tensor<128x64x!tt.ptr<f32>>
    %105 = tt.addptr %104, %103 : tensor<128x64x!tt.ptr<f32>>, tensor<128x64xi32>
    %106 = tt.load %105, %97, %cst_25 : tensor<128x64x!tt.ptr<f32>>
    %107 = tt.splat %arg8 : !tt.ptr<f32> -> tensor<128x64x!tt.ptr<f32>>
    %108 = tt.addptr %107, %103 : tensor<128x64x!tt.ptr<f32>>, tensor<128x64xi32>
    %109 = tt.load %108, %97, %cst_25 : tensor<128x64x!tt.ptr<f32>>
    %110 = arith.mulf %83, %109 : tensor<128x64xf32>
    %111 = arith.mulf %84, %106 : tensor<128x64xf32>
    %112 = arith.addf %110, %111 : tensor<128x64xf32>
    %113 = arith.cmpi slt, %94, %cst_5 : tensor<128xi32>
    %114 = tt.expand_dims %113 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %115 = tt.broadcast %114 : tensor<128x1xi1> -> tensor<128x64xi1>
    %116 = arith.truncf %112 : tensor<128x64xf32> to tensor<128x64xbf16>
    %117 = arith.muli %100, %cst_32 : tensor<128x64xi32>
    %118 = arith.addi %15, %117 : tensor<128x64xi32>
    %119 = arith.addi %118, %21 : tensor<128x64xi32>
    %120 = arith.addi %119, %25 : tensor<128x64xi32>
    %121 = tt.splat %arg12 : !tt.ptr<bf16> -> tensor<128x64x!tt.ptr<bf16>>
    %122 = tt.addptr %121, %120 : tensor<128x64x!tt.ptr<bf16>>, tensor<128x64xi32>
    tt.store %122, %116, %115 : tensor<128x64x!tt.ptr<bf16>>
    %123 = arith.mulf %84, %109 : tensor<128x64xf32>
    %124 = arith.mulf %83, %106 : tensor<128x64xf32>
    %125 = arith.subf %123, %124 : tensor<128x64xf32>
    %126 = arith.truncf %125 : tensor<128x64xf32> to tensor<128x64xbf16>
    %127 = arith.addi %119, %32 : tensor<128x64xi32>
    %128 = tt.addptr %121, %127 : tensor<128x64x!tt.ptr<bf16>>, tensor<128x64xi32>
    tt.store %128, %126, %115 : tensor<128x64x!tt.ptr<bf16>>
    %129 = tt.addptr %27, %120 : tensor<128x64x!tt.ptr<bf16>>, tensor<128x64xi32>
    %130 = tt.load %129, %97, %cst_30 : tensor<128x64x!tt.ptr<bf16>>
    %131 = tt.addptr %27, %127 : tensor<128x64x!tt.ptr<bf16>>, tensor<128x64xi32>
    %132 = tt.load %131, %97, %cst_30 : tensor<128x64x!tt.ptr<bf16>>
    %133 = arith.extf %130 : tensor<128x64xbf16> to tensor<128x64xf32>
    %134 = arith.mulf %133, %84 : tensor<128x64xf32>
    %135 = arith.extf %132 : tensor<128x64xbf16> to tensor<128x64xf32>
    %136 = arith.mulf %135, %83 : tensor<128x64xf32>
    %137 = arith.subf %134, %136 : tensor<128x64xf32>
    %138 = tt.splat %3 : i32 -> tensor<128xi32>
    %139 = arith.muli %138, %cst_5 : tensor<128xi32>
    %140 = arith.addi %139, %94 : tensor<128xi32>
    %141 = tt.splat %arg9 : !tt.ptr<f32> -> tensor<128x!tt.ptr<f32>>
    %142 = tt.addptr %141, %140 : tensor<128x!tt.ptr<f32>>, tensor<128xi32>
    %143 = tt.load %142, %95, %cst_2 : tensor<128x!tt.ptr<f32>>
    %144 = tt.expand_dims %143 {axis = 1 : i32} : tensor<128xf32> -> tensor<128x1xf32>
    %145 = tt.broadcast %144 : tensor<128x1xf32> -> tensor<128x64xf32>
    %146 = arith.mulf %145, %137 : tensor<128x64xf32>
    %147 = "tt.reduce"(%146) <{axis = 0 : i32}> ({
    ^bb0(%arg15: f32, %arg16: f32):
      %168 = arith.addf %arg15, %arg16 : f32
      tt.reduce.return %168 : f32
    }) : (tensor<128x64xf32>) -> tensor<64xf32>
    %148 = tt.splat %1 : i32 -> tensor<64xi32>
    %149 = arith.muli %148, %cst_1 : tensor<64xi32>
    %150 = tt.splat %3 : i32 -> tensor<64xi32>
    %151 = arith.muli %150, %cst_0 : tensor<64xi32>
    %152 = arith.addi %149, %151 : tensor<64xi32>
    %153 = tt.splat %2 : i32 -> tensor<64xi32>
    %154 = arith.muli %153, %cst : tensor<64xi32>
    %155 = arith.addi %152, %154 : tensor<64xi32>
    %156 = arith.addi %155, %23 : tensor<64xi32>
    %157 = tt.splat %arg13 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %158 = tt.addptr %157, %156 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %158, %147 : tensor<64x!tt.ptr<f32>>
    %159 = tt.splat %arg10 : !tt.ptr<f32> -> tensor<128x!tt.ptr<f32>>
    %160 = tt.addptr %159, %140 : tensor<128x!tt.ptr<f32>>, tensor<128xi32>
    %161 = tt.load %160, %95, %cst_2 : tensor<128x!tt.ptr<f32>>
    %162 = tt.expand_dims %161 {axis = 1 : i32} : tensor<128xf32> -> tensor<128x1xf32>
    %163 = tt.broadcast %162 : tensor<128x1xf32> -> tensor<128x64xf32>
    %164 = arith.mulf %163, %137 : tensor<128x64xf32>
    %165 = "tt.reduce"(%164) <{axis = 0 : i32}> ({
    ^bb0(%arg15: f32, %arg16: f32):
      %168 = arith.addf %arg15, %arg16 : f32
      tt.reduce.return %168 : f32
    }) : (tensor<128x64xf32>) -> tensor<64xf32>
    %166 = tt.splat %arg14 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %167 = tt.addptr %166, %156 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %167, %165 : tensor<64x!tt.ptr<f32>>
    tt.return
  }
}
